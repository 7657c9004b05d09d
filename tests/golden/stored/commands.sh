# The commands whose results are stored here, for a copy of this folder: TWEEDIE names the program, HOW its arithmetic.
set -eu
HOW=${HOW-"--exact --deterministic --threads 1"}
: "${STATES=}"

"$TWEEDIE" sample tiny.safetensors --seeds 0-3 --sampler '{kind: ddim, eta: 0.5}' --schedule '{kind: karras, max: 40}' \
    --steps 6 --states --device cpu $HOW --quiet --out sample
for method in mmps walk; do
    "$TWEEDIE" restore tiny.safetensors --image real/04.png --task '{kind: inpaint-random, hidden: 0.5}' --noise 0.05 \
        --method "$method" --steps 6 --samples 2 $STATES --device cpu $HOW --quiet --out "$method"
done
"$TWEEDIE" run table.yaml --device cpu $HOW --quiet --out . --results results
