#!/bin/sh
# UNet2DModel with resnet_time_scale_shift="scale_shift" leaves out the normalisation of its middle attention.
#
# diffusers 0.42.1, torch 2.15.0, Python 3, CPU.
#
# The key names how residual blocks take the time. In the middle block it also decides whether the attention normalises its
# pixels: with "default" it has a GroupNorm of norm_num_groups, with "scale_shift" none, unless attn_norm_num_groups is set.
# Attention on the way down and up keeps its GroupNorm either way. A network written from the configuration alone, with the
# norm that every other attention has, finds two tensors missing in the file; one that fills them with ones and zeros gives
# other answers without an error.
#
# Seen (time, attn_norm_num_groups, names of the group_norm weights of all attentions):
#   default None down_blocks.1 mid_block up_blocks.0
#   scale_shift None down_blocks.1 up_blocks.0
#   scale_shift 4 down_blocks.1 mid_block up_blocks.0
set -e
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1
"$place/venv/bin/python" - >"$place/seen" <<'PY'
from diffusers import UNet2DModel

for time, groups in (("default", None), ("scale_shift", None), ("scale_shift", 4)):
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift=time,
        attn_norm_num_groups=groups,
    )
    names = {name.split(".attentions")[0] for name in network.state_dict() if name.endswith("group_norm.weight")}
    print(time, groups, *sorted(names))
PY
cat "$place/seen"
printf '%s\n' 'default None down_blocks.1 mid_block up_blocks.0' 'scale_shift None down_blocks.1 up_blocks.0' \
    'scale_shift 4 down_blocks.1 mid_block up_blocks.0' | diff - "$place/seen"
