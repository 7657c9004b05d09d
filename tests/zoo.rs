//! Published checkpoints: opened as they are, they compute what their authors' code computes.

use std::{collections::BTreeMap, fs, path::Path};

use flate2::read::GzDecoder;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    models::{
        card::Model,
        checkpoint::safetensors,
        zoo::{self, Contents},
    },
    networks::{AnyNetwork, FfdnetConfig, FfdnetLayout, weights::Weights},
    numbers::precondition::AnyPrecondition,
    scores::denoiser::Denoiser,
};

const ZOO: &str = "tests/golden/zoo";

fn open(path: &Path, settings: &[&str]) -> Result<Model, tweedie::Error> {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    Model::open_with(path.to_str().unwrap(), None, &settings, Device::Cpu, Kind::Float)
}

/// D(x, σ) of a case, against what the original program computed on the same weights.
fn agrees(case: &str, file: &str, settings: &[&str]) -> Model {
    agrees_after(case, file, settings, |_| ())
}

fn agrees_after(case: &str, file: &str, settings: &[&str], mend: impl Fn(&Model)) -> Model {
    agrees_at(&Path::new(ZOO).join(case).join(file), case, settings, mend)
}

fn agrees_at(path: &Path, case: &str, settings: &[&str], mend: impl Fn(&Model)) -> Model {
    let folder = Path::new(ZOO).join(case);
    let text = std::fs::read(folder.join("case.json")).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sigma = text["sigma"].as_f64().unwrap();
    let classes: Option<Vec<i64>> =
        text["class_labels"].as_array().map(|all| all.iter().filter_map(serde_json::Value::as_i64).collect());
    let model = open(path, settings).unwrap();
    mend(&model);
    // The figures are in the pixels of the original program.
    let [black, white] = model.card.pixels;
    let scale = 2.0 / (white - black);
    let read = |name: &str| (Tensor::read_npy(folder.join(name)).unwrap() - black) * scale - 1.0;
    let expected = read("denoised.npy");
    let denoiser = model.denoiser.for_classes(classes.as_deref());
    let denoised = tch::no_grad(|| denoiser.denoise(&read("z.npy"), scale * sigma));
    let largest = |x: Tensor| f64::try_from(x.abs().max()).unwrap();
    let (error, scale) = (largest(denoised - &expected), largest(expected));
    // Two implementations in f32; the issue of all families asks for this.
    assert!(error < 1e-4 * scale, "{case}: {error} of {scale}");
    model
}

#[test]
fn a_checkpoint_of_pesser_and_ermongroup_opens_as_published() {
    let model = agrees("ermon-ddim", "model.ckpt", &[]);
    assert!(model.count() == 285_667 && model.assumed.contains("linear-β chain"));
    let AnyNetwork::Unet(config) = &model.card.network else { panic!("{:?}", model.card) };
    assert_eq!(config.layers_per_block, 1);
    assert_eq!(model.card.image, [3, 32, 32]);
}

#[test]
fn the_networks_of_diffusers_open_as_published() {
    let ddpm = agrees("diffusers-ddpm", "", &[]);
    assert!(ddpm.card.image == [3, 16, 16] && ddpm.assumed == "images of 16×16 in −1 … 1", "{}", ddpm.assumed);
    let ncsnpp = agrees("diffusers-ncsnpp", "", &[]);
    assert_eq!(ncsnpp.card.pixels, [0.0, 1.0]);
    assert_eq!(ncsnpp.range(), (0.02, 2.0 * 348.0), "twice those of scheduler_config.json");
    // The file of weights stands for the folder that it lies in.
    assert_eq!(agrees("diffusers-ddpm", "diffusion_pytorch_model.safetensors", &[]).card.image, [3, 16, 16]);
}

/// Without a configuration names and shapes are enough for the published conventions.
#[test]
fn a_file_of_diffusers_opens_without_its_folder() {
    let place = TempDir::new().unwrap();
    for case in ["diffusers-ddpm", "diffusers-ncsnpp"] {
        let alone = place.path().join(format!("{case}.safetensors"));
        fs::copy(Path::new(ZOO).join(case).join("diffusion_pytorch_model.safetensors"), &alone).unwrap();
        let model = agrees_at(&alone, case, &[], |_| ());
        assert!(model.assumed.contains("because there is no config.json beside it"), "{}", model.assumed);
    }
}

/// The old names of attention's layers, as 1×1 convolutions, in two files that an index lists, in a folder with `unet/` and
/// `scheduler/`.
#[test]
fn a_folder_of_diffusers_may_have_several_files_and_old_names() {
    let place = TempDir::new().unwrap();
    let from = Path::new(ZOO).join("diffusers-ddpm");
    let (unet, scheduler) = (place.path().join("unet"), place.path().join("scheduler"));
    fs::create_dir(&unet).unwrap();
    fs::create_dir(&scheduler).unwrap();
    fs::copy(from.join("config.json"), unet.join("config.json")).unwrap();
    fs::copy(from.join("scheduler_config.json"), scheduler.join("scheduler_config.json")).unwrap();
    let (tensors, _) = safetensors::read(&from.join("diffusion_pytorch_model.safetensors")).unwrap();
    let old = |(name, tensor): (String, Tensor)| {
        let renamed = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]
            .iter()
            .fold(name.clone(), |name, (new, old)| name.replace(new, old));
        let convolved = renamed != name && tensor.dim() == 2;
        (renamed, if convolved { tensor.unsqueeze(-1).unsqueeze(-1) } else { tensor })
    };
    let mut parts = [BTreeMap::new(), BTreeMap::new()];
    let mut map = serde_json::Map::new();
    let names =
        ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors"];
    for (i, (name, tensor)) in tensors.into_iter().map(old).enumerate() {
        map.insert(name.clone(), names[i % 2].into());
        parts[i % 2].insert(name, tensor);
    }
    for (name, part) in names.iter().zip(&parts) {
        safetensors::write(&unet.join(name), part, &BTreeMap::new()).unwrap();
    }
    let index = unet.join("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    let model = agrees_at(place.path(), "diffusers-ddpm", &[], |_| ());
    let whole = agrees("diffusers-ddpm", "", &[]);
    assert_ne!(model.sha256().unwrap(), whole.sha256().unwrap(), "of both files, one after another");
    // An index may not lead out of its folder.
    fs::write(&index, r#"{"weight_map": {"conv_in.weight": "../../secret.safetensors"}}"#).unwrap();
    let refused = open(place.path(), &[]).unwrap_err().to_string();
    assert!(refused.contains("../../secret.safetensors, which is not a file of this folder"), "{refused}");
}

/// What a configuration says is honoured or refused.
#[test]
fn configurations_of_diffusers_are_honoured_or_refused() {
    let place = TempDir::new().unwrap();
    let from = Path::new(ZOO).join("diffusers-ddpm");
    let weights = "diffusion_pytorch_model.safetensors";
    fs::copy(from.join(weights), place.path().join(weights)).unwrap();
    let change = |file: &str, changes: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(from.join(file)).unwrap()).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(place.path().join(file), config.to_string()).unwrap();
    };
    let refused = || open(place.path(), &[]).unwrap_err().to_string();
    change("scheduler_config.json", serde_json::json!({}));
    for (key, value, told) in [
        ("act_fn", serde_json::json!("elu"), "act_fn is \"elu\", but silu is wanted"),
        ("class_embed_type", serde_json::json!("timestep"), "but null is wanted"),
        (
            "down_block_types",
            serde_json::json!(["KDownBlock2D"]),
            "down_block_types has a KDownBlock2D, which is not opened",
        ),
        ("sample_size", serde_json::json!([8]), "sample_size is [8], but a number, or height and width is wanted"),
        ("norm_eps", serde_json::json!("small"), "norm_eps is \"small\", but a number is wanted"),
        ("_class_name", serde_json::json!("UNet2DConditionModel"), "only UNet2DModel is opened"),
        ("attention_head_dim", serde_json::json!(48), "heads no wider than the levels that attend"),
    ] {
        change("config.json", serde_json::json!({key: value}));
        assert!(refused().contains(told), "{key}: {}", refused());
    }
    change("config.json", serde_json::json!({"attention_head_dim": 8, "flip_sin_to_cos": true, "norm_eps": 1e-5}));
    let AnyNetwork::Unet(config) = open(place.path(), &[]).unwrap().card.network else { panic!() };
    assert!(config.attention_head_dim == Some(8) && config.flip_sin_to_cos && config.norm_eps == 1e-5);
    for (changes, chain) in [
        (serde_json::json!({"beta_schedule": "squaredcos_cap_v2"}), "Cosine"),
        (serde_json::json!({"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}), "prediction: V"),
        (serde_json::json!({"beta_schedule": "sigmoid", "prediction_type": "sample"}), "SigmoidBeta"),
        (serde_json::json!({"trained_betas": [0.1, 0.2]}), "Betas { betas: [0.1, 0.2] }"),
    ] {
        change("scheduler_config.json", changes);
        let precondition = format!("{:?}", open(place.path(), &[]).unwrap().card.precondition);
        assert!(precondition.contains(chain), "{precondition}");
    }
    change("scheduler_config.json", serde_json::json!({"beta_schedule": "cubic"}));
    assert!(refused().contains("scheduler_config.json: beta_schedule is \"cubic\""), "{}", refused());
    change("scheduler_config.json", serde_json::json!({"rescale_betas_zero_snr": true}));
    let zero = open(place.path(), &[]).unwrap();
    assert!((zero.range().1 - 4096.0).abs() < 1e-2, "{:?}", zero.range());
    fs::write(place.path().join("config.json"), "{").unwrap();
    assert!(refused().contains("config.json: is not JSON"), "{}", refused());
    fs::remove_file(place.path().join("config.json")).unwrap();
    assert!(refused().contains("is a folder without config.json"), "{}", refused());
}

#[test]
fn a_checkpoint_of_guided_diffusion_opens_as_published() {
    // Shapes do not tell how attention is divided; the published files have heads of 64 channels.
    let model = agrees("guided-diffusion", "model.pt", &["heads={width: 16}"]);
    let AnyNetwork::Adm(config) = &model.card.network else { panic!("{:?}", model.card) };
    assert_eq!((config.num_res_blocks, config.attention_levels.as_slice()), (1, [1].as_slice()));
    assert!(config.resblock_updown && config.use_scale_shift_norm && config.out_channels == 6);
    assert!(model.card.image == [3, 32, 32] && model.assumed.contains("legacy order"), "{}", model.assumed);
}

#[test]
fn the_networks_of_score_sde_open_as_published() {
    // This file's weights are its averages plus 0.01, which tells the two apart; its maker added that to the frequencies
    // too, after the figures were computed, although these are not trained and have no average.
    let ve = agrees_after("scoresde-ncsnpp-ve", "checkpoint.pth", &[], |model| {
        let (_, frequencies) = model.parameters.iter().find(|(name, _)| name == "embedding.frequencies").unwrap();
        let _ = tch::no_grad(|| frequencies.shallow_clone().g_sub_scalar_(0.01));
    });
    assert!(ve.assumed.contains("moving average") && ve.card.pixels == [0.0, 1.0], "{}", ve.assumed);
    let (min, max) = ve.range();
    assert!((min - 0.02).abs() < 1e-6 && (max - 100.0).abs() < 1e-3, "twice the file's own levels: {min} {max}");
    let plus = agrees("scoresde-ddpmpp-vp", "checkpoint.pth", &[]);
    assert!(matches!(&plus.card.network, AnyNetwork::Ncsnpp(config) if config.num_res_blocks == 2 && !config.fir));
    let ddpm = agrees("scoresde-ddpm-vp", "checkpoint.pth", &[]);
    assert!(matches!(&ddpm.card.network, AnyNetwork::Unet(config) if config.attends_once_up));
}

#[test]
fn the_refinenets_of_ncsn_open_as_published() {
    let first = agrees("ncsn", "checkpoint.pth", &[]);
    assert!(first.card.pixels == [0.0, 1.0] && first.assumed.contains("10 levels"), "{}", first.assumed);
    let second = agrees("ncsnv2", "checkpoint.pth", &[]);
    assert!(second.assumed.contains("moving average"), "{}", second.assumed);
}

/// The averages are other numbers than the weights that they average.
#[test]
fn the_weights_themselves_are_read_if_they_are_asked_for() {
    let path = Path::new(ZOO).join("scoresde-ncsnpp-ve/checkpoint.pth");
    let [average, raw] = [&[][..], &["weights=raw"]].map(|settings| open(&path, settings).unwrap());
    assert!(raw.assumed.contains("the weights themselves"), "{}", raw.assumed);
    let first = |model: &Model| model.parameters.iter().find(|(name, _)| name == "conv_in.weight").unwrap().1.copy();
    assert!(!first(&average).equal(&first(&raw)));
    let refused = open(&path, &["weights=best"]).unwrap_err().to_string();
    assert!(refused.contains("weights are ema or raw"), "{refused}");
}

#[test]
fn the_pickled_networks_of_edm_open_as_published() {
    let precondition = |case| agrees(case, "network-snapshot.pkl", &[]).card.precondition;
    assert!(matches!(precondition("edm-vp"), AnyPrecondition::Vp(_)));
    assert!(matches!(precondition("edm-ve"), AnyPrecondition::Ve(_)));
    assert!(matches!(precondition("edm-ddpmpp"), AnyPrecondition::Edm(_)));
    assert!(matches!(precondition("edm-ncsnpp"), AnyPrecondition::Edm(_)));
    assert!(matches!(precondition("edm-adm"), AnyPrecondition::Edm(_)));
    assert!(matches!(precondition("edm-classes"), AnyPrecondition::Edm(_)));
    assert!(matches!(precondition("edm-iddpm"), AnyPrecondition::Iddpm(_)));
}

/// The networks of FFDNet's two packages with random weights, at three levels, the sides of KAIR's odd.
#[test]
fn the_denoisers_of_kair_and_ipol_open_as_published() {
    for (case, channels) in [("ffdnet-kair", 3), ("ffdnet-ipol-rgb", 3), ("ffdnet-ipol-gray", 1)] {
        let folder = Path::new(ZOO).join(case);
        let text: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
        let model = open(&folder.join("model.pth"), &[]).unwrap();
        assert!(model.card.image == [channels, 256, 256] && model.assumed.contains("75/255"), "{}", model.assumed);
        assert_eq!(model.range(), (2.0 / 255.0, 150.0 / 255.0), "in data units, twice what it is for pixels of 0 … 1");
        let read = |name: &str| Tensor::read_npy(folder.join(name)).unwrap() * 2.0 - 1.0;
        let (z, expected) = (read("z.npy"), read("denoised.npy"));
        let sigmas: Vec<f64> = text["sigmas"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(sigmas.len(), 3);
        for (i, sigma) in sigmas.into_iter().enumerate() {
            let at = |x: &Tensor| x.narrow(0, i as i64, 1);
            let denoised = tch::no_grad(|| model.denoiser.denoise(&at(&z), 2.0 * sigma));
            let largest = |x: Tensor| f64::try_from(x.abs().max()).unwrap();
            let error = largest(denoised - at(&expected)) / largest(at(&expected));
            assert!(error < 1e-4, "{case} at σ = {sigma}: {error}");
        }
    }
}

/// As IPOL's own program has it; the package of today mirrors instead.
#[test]
fn an_odd_side_is_denoised_with_its_last_row_repeated() {
    let model = open(&Path::new(ZOO).join("ffdnet-ipol-gray/model.pth"), &[]).unwrap();
    let odd = Tensor::read_npy(Path::new(ZOO).join("ffdnet-ipol-gray/z.npy")).unwrap().narrow(2, 0, 11).narrow(3, 0, 9);
    let even = odd.replication_pad2d([0, 1, 0, 1]);
    let denoise = |x: &Tensor| tch::no_grad(|| model.denoiser.denoise(x, 0.2));
    assert!(denoise(&odd).equal(&denoise(&even).narrow(2, 0, 11).narrow(3, 0, 9)));
}

/// 852,108 are published for KAIR's in colour, 486,080 and 854,688 for IPOL's, which count no statistics of batches.
#[test]
fn ffdnets_have_the_published_numbers_of_parameters() {
    let count = |layout, in_channels, width, layers| -> usize {
        let weights = Weights::fresh(0, Device::Cpu, Kind::Float);
        AnyNetwork::Ffdnet(FfdnetConfig { in_channels, width, layers, layout }).build(&weights).unwrap();
        let trained = |(name, tensor): &(String, Tensor)| if name.contains("running") { 0 } else { tensor.numel() };
        weights.finish().unwrap().iter().map(trained).sum()
    };
    assert_eq!(count(FfdnetLayout::Kair, 3, 96, 12), 852_108);
    assert_eq!(count(FfdnetLayout::Ipol, 1, 64, 15), 486_080);
    assert_eq!(count(FfdnetLayout::Ipol, 3, 96, 12), 854_688);
}

/// Convolutions in a row under the same names are no FFDNet without a map of σ.
#[test]
fn a_denoiser_that_is_told_no_sigma_is_not_taken_for_one_that_is() {
    let shapes = [("model.0.weight", vec![8, 4, 3, 3]), ("model.2.weight", vec![4, 8, 3, 3])];
    let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape)).into();
    let cause = zoo::recognise(&Contents::described("dncnn", shapes, serde_json::Value::Null)).unwrap_err();
    assert!(cause.contains("is of no known family"), "{cause}");
}

/// Names and shapes of networks as they were published, made by the original programs' own classes: each is recognised from
/// these alone, all of it is explained, and it has the published number of parameters.
#[test]
fn published_networks_are_recognised_by_names_and_shapes() {
    let file = fs::File::open("tests/golden/shapes/published.json.gz").unwrap();
    let all: BTreeMap<String, Published> = serde_json::from_reader(GzDecoder::new(file)).unwrap();
    let mut seen = 0;
    for (name, Published { params, tensors }) in all {
        let numbers = |ending: &str| -> i64 {
            let of = tensors.iter().filter(|(name, _)| name.ends_with(ending));
            of.map(|(_, shape)| shape.iter().product::<i64>()).sum()
        };
        // What is only told of augmented images in training is not used; EDM does not count its frequencies, we do.
        let expected = params - numbers("map_augment.weight") + numbers("map_noise.freqs");
        let contents = Contents::described(&name, tensors.clone(), serde_json::Value::Null);
        let recognised = zoo::recognise(&contents).unwrap_or_else(|cause| panic!("{name} {cause}"));
        let tensors = recognised.tensors(&contents, Device::Cpu, Kind::Float).unwrap();
        let weights = Weights::stored(tensors, Device::Cpu, Kind::Float);
        let network = recognised.card.network.build(&weights).unwrap_or_else(|cause| panic!("{name}: {cause}"));
        let parameters = weights.finish().unwrap_or_else(|cause| panic!("{name}: {cause}"));
        let count: usize = parameters.iter().map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(count as i64, expected, "{name}");
        network.check(recognised.card.image).unwrap();
        recognised.card.precondition.build().unwrap();
        let side = SIDES.iter().find(|(part, _)| name.contains(part)).unwrap_or_else(|| panic!("{name}")).1;
        assert_eq!(recognised.card.image, [3, side, side], "{name}");
        seen += 1;
    }
    assert_eq!(seen, 46);
}

/// The size of the images, by a part of the name; the first that fits.
const SIDES: [(&str, i64); 20] = [
    ("1024", 1024),
    ("ncsnv2_bedroom", 128),
    ("ncsnv2_celeba", 64),
    // Its file says 64, its page 96.
    ("ncsnv2_church", 64),
    // Recorded with the attention of its 256-pixel configuration.
    ("azula_adm_imagenet_512x512", 256),
    ("512", 512),
    ("imagenet128", 128),
    ("128x128", 128),
    ("imagenet64", 64),
    ("64x64", 64),
    ("ffhq64", 64),
    ("ffhq_10m", 256),
    ("256", 256),
    ("ddpm_celebahq", 256),
    ("bedroom", 256),
    ("pesser_ddpm_celeba", 64),
    ("ffhq_ncsnpp", 1024),
    ("church", 256),
    ("lsun", 256),
    ("cifar10", 32),
];

#[derive(Deserialize)]
struct Published {
    params: i64,
    tensors: BTreeMap<String, Vec<i64>>,
}

#[test]
fn what_the_command_line_sets_must_be_in_the_card_and_make_sense() {
    let path = Path::new(ZOO).join("guided-diffusion/model.pt");
    let complaint = |setting: &str| open(&path, &["heads={width: 16}", setting]).unwrap_err().to_string();
    assert!(complaint("heads").contains("is not of the form key=value"));
    let unknown = complaint("num_hats=4");
    assert!(unknown.contains("the card has no such key") && unknown.contains("heads, in_channels"), "{unknown}");
    assert!(complaint("heads={width: 24}").contains("heads that divide the widths that attend"));
    assert!(complaint("block_out_channels=[32, 64]").contains("not"), "shapes that the file does not have");
    assert!(open(&path, &[]).unwrap_err().to_string().contains("set heads"), "64 channels do not divide 32");
    let model = open(&path, &["network.heads={count: 2}", "prediction=v", "image=[3, 64, 64]"]).unwrap();
    assert_eq!(model.card.image, [3, 64, 64]);
}

/// guided-diffusion's command line for its network of 64×64 says all that shapes cannot, in any order; what they can is
/// compared. `space_timesteps` and `get_named_beta_schedule` of that package gave the numbers.
#[test]
fn the_flags_of_guided_diffusion_are_read_beside_the_cards_keys() {
    let line = "attention_resolutions=16 class_cond=False diffusion_steps=1000 dropout=0.1 image_size=32 learn_sigma=True \
                noise_schedule=cosine num_channels=32 num_head_channels=16 num_res_blocks=1 resblock_updown=True \
                use_new_attention_order=False use_fp16=True use_scale_shift_norm=True channel_mult=1,1";
    let line: Vec<&str> = line.split(' ').collect();
    // Its own figures are of the linear chain.
    let settings = [&line[..], &["noise_schedule=linear"]].concat();
    let model = agrees("guided-diffusion", "model.pt", &settings);
    assert!(model.assumed.contains("of no effect here: dropout, use_fp16"), "{}", model.assumed);
    let path = Path::new(ZOO).join("guided-diffusion/model.pt");
    let card = |settings: &[&str]| open(&path, &[&["num_head_channels=16"], settings].concat()).unwrap().card;
    let AnyNetwork::Adm(config) = card(&["num_heads=2", "num_heads_upsample=-1"]).network else { panic!() };
    assert_eq!(config.heads, tweedie::networks::Heads::Width(16), "num_head_channels goes before num_heads");
    let AnyNetwork::Adm(config) = card(&["num_head_channels=-1", "num_heads=2"]).network else { panic!() };
    assert_eq!(config.heads, tweedie::networks::Heads::Count(2));
    assert_eq!(card(&["attention_resolutions=32"]).image, [3, 64, 64], "level 1 attends");
    let long = ["diffusion_steps=4000", "noise_schedule=linear", "rescale_timesteps=True", "predict_xstart=True"];
    let precondition = serde_json::to_value(card(&long).precondition).unwrap();
    let wanted = serde_json::json!({"kind": "ddpm", "prediction": "sample", "label_times": 1000.0,
        "beta": {"kind": "linear-beta", "first": 2.5e-5, "last": 0.005, "times": 4000}});
    assert_eq!(precondition, wanted);
    let cosine = serde_json::to_value(card(&["noise_schedule=cosine"]).precondition).unwrap();
    assert!(cosine["beta"]["kind"] == "cosine" && cosine["beta"]["times"] == 1000, "{cosine}");
}

#[test]
fn the_times_of_guided_diffusion_are_those_of_its_own_function() {
    let path = Path::new(ZOO).join("guided-diffusion/model.pt");
    let chain = tweedie::numbers::schedule::LinearBeta::default();
    let chain = tweedie::numbers::schedule::Chain::times(&chain).unwrap();
    let times = |respacing: &str| -> Vec<i64> {
        let setting = format!("timestep_respacing={respacing}");
        let card = open(&path, &["num_head_channels=16", &setting]).unwrap().card;
        let sigmas = card.sample.sigmas(chain.range()).unwrap();
        sigmas.iter().map(|sigma| chain.time(sigma).round() as i64).collect::<Vec<_>>().into_iter().rev().collect()
    };
    assert_eq!(times("5"), [0, 250, 500, 749, 999]);
    assert_eq!(times("ddim4"), [0, 250, 500, 750]);
    assert_eq!(times("ddim3"), [0, 334, 668]);
    assert_eq!(times("3,2,1"), [0, 166, 333, 334, 666, 667]);
    assert_eq!(times("250").len(), 250);
    let walk = |settings: &[&str]| open(&path, &[&["num_head_channels=16"], settings].concat()).unwrap().card;
    assert_eq!(walk(&["clip_denoised=True"]).clip, Some(tweedie::scores::denoiser::Clip::Limit(1.0)));
    let sampler = |settings: &[&str]| serde_json::to_value(walk(settings).sample.sampler).unwrap();
    assert_eq!(sampler(&["use_ddim=True"])["kind"], "ddim");
    // This network has learned its variance, which goes before fixed ones there.
    assert_eq!(sampler(&["sigma_small=True"]), serde_json::json!({"kind": "ddpm-learned"}));
}

#[test]
fn flags_that_the_tensors_gainsay_are_refused() {
    let path = Path::new(ZOO).join("guided-diffusion/model.pt");
    let refused = |setting: &str| open(&path, &["num_head_channels=16", setting]).unwrap_err().to_string();
    for (setting, told) in [
        ("num_channels=128", "`set`: num_channels=128: by the tensors it is 32"),
        ("channel_mult=1,2", "`set`: channel_mult=1,2: by the tensors it is 1,1"),
        ("class_cond=True", "`set`: class_cond=true: by the tensors it is false"),
        ("learn_sigma=False", "`set`: learn_sigma=false: by the tensors it is true"),
        ("noise_schedule=cubic", "`set`: noise_schedule=cubic: linear or cosine is wanted"),
        ("timestep_respacing=ddim600", "a number, ddimN or a list of numbers for 1000 times is wanted"),
        ("timestep_respacing=2000", "a number, ddimN or a list of numbers for 1000 times is wanted"),
        ("predict_xstart=perhaps", "`set`: predict_xstart=perhaps: True or False is wanted"),
        ("num_heads=none", "`set`: num_heads=none: a positive number is wanted"),
    ] {
        let said = refused(setting);
        assert!(said.contains(told), "{setting}: {said}");
    }
    let said = open(&path, &["image_size=32", "attention_resolutions=32"]).unwrap_err().to_string();
    assert!(said.contains("attention_resolutions=32: by the tensors it is 16 of 32×32"), "{said}");
}

/// Weights that are used as they lie in a file are there as long as somebody holds them, and may be written to.
#[test]
fn weights_outlive_their_model_and_its_file() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("model.pt");
    fs::copy(Path::new(ZOO).join("guided-diffusion/model.pt"), &path).unwrap();
    let before = fs::read(&path).unwrap();
    let open = || open(&path, &["heads={width: 16}"]).unwrap_or_else(|e| panic!("{e}"));
    let (model, other) = (open(), open());
    let held: Vec<Tensor> = model.parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    let copied: Vec<Tensor> = held.iter().map(Tensor::copy).collect();
    let _ = tch::no_grad(|| other.parameters[0].1.shallow_clone().fill_(3.0));
    assert!(held == copied, "what is written into one model is its own");
    assert!(fs::read(&path).unwrap() == before, "and not the file's");
    drop(model);
    fs::remove_file(&path).unwrap();
    assert!(held == copied);
}

/// `tests/parity/unets.py --write` made these with diffusers: every option of UNet2DModel that changes its layers.
#[test]
fn unets_of_every_shape_open_as_diffusers_builds_them() {
    let folder = Path::new(ZOO).join("unets");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "{cases:?}");
    for case in cases {
        agrees(&format!("unets/{}", case.to_str().unwrap()), "", &[]);
    }
}

/// improved-diffusion's files have guided-diffusion's names, but halve by convolutions; their upsamplers see two images.
#[test]
fn the_networks_of_improved_diffusion_have_their_own_chains() {
    let file = fs::File::open("tests/golden/shapes/published.json.gz").unwrap();
    let all: BTreeMap<String, Published> = serde_json::from_reader(GzDecoder::new(file)).unwrap();
    let (_, Published { tensors, .. }) = all
        .into_iter()
        .find(|(_, network)| {
            network.tensors.contains_key("input_blocks.0.0.weight") && !network.tensors.contains_key("label_emb.weight")
        })
        .unwrap();
    let convolved = |tensors: &zoo::Shapes| {
        let mut tensors = tensors.clone();
        let halves: Vec<String> = (tensors.keys())
            .filter(|name| name.starts_with("input_blocks.") && name.ends_with(".0.in_layers.2.weight"))
            .map(|name| name.trim_end_matches(".0.in_layers.2.weight").to_owned())
            .filter(|block| !tensors.contains_key(&format!("{block}.0.skip_connection.weight")))
            .collect();
        for block in halves {
            tensors.insert(format!("{block}.0.op.weight"), vec![64, 64, 3, 3]);
        }
        tensors
    };
    let recognised = |tensors: zoo::Shapes| {
        zoo::recognise(&Contents::described("improved", tensors, serde_json::Value::Null)).map(|found| found.card)
    };
    let card = recognised(convolved(&tensors)).unwrap();
    let AnyNetwork::Adm(config) = &card.network else { panic!() };
    let (text, lsun) = (format!("{:?} {:?}", config.heads, card.precondition), config.attention_levels.len() == 1);
    assert!(
        !config.resblock_updown && !config.use_new_attention_order && card.reference.contains("improved-diffusion")
    );
    assert!(if lsun { text.starts_with("Count(1)") } else { text.starts_with("Count(4)") }, "{text}");
    if !lsun {
        assert!(text.contains("times: 4000") && text.contains("label_times: Some(1000.0)"), "{text}");
        // The label of chain time t is t/4, as rescale_timesteps has it.
        let built = card.precondition.build().unwrap();
        let times = built.times().unwrap();
        let label = built.at(times.levels()[2000]).label;
        assert!((label - 500.0).abs() < 1e-9, "{label}");
    }
    let mut upsampler = tensors;
    upsampler.get_mut("input_blocks.0.0.weight").unwrap()[1] = 6;
    let refused = recognised(upsampler).unwrap_err();
    assert!(refused.contains("is an upsampler of guided- or improved-diffusion"), "{refused}");
}
