//! Measurements of one's own: what an operator does not see, units, masks, k-space, sinograms of other packages, archives.

use std::fs;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    evaluation::metrics,
    files::images,
    inverse::operators::{AnyTask, Operator},
    scores::noise::{Noise, Seeded},
};

use crate::cli::Place;

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn build(json: &str, shape: [i64; 3]) -> Operator {
    let task: AnyTask = serde_json::from_str(json).unwrap();
    task.get().operator(shape, 0, Device::Cpu, Kind::Double).unwrap()
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn restore<'a>(measurement: &'a str, flags: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let command = ["restore", "tiny.safetensors", "--measurement", measurement, "--steps", "4", "--samples", "2"];
    [&command[..], flags, &["--out", out]].concat()
}

/// The samples of a run, whatever they are called.
fn samples(place: &Place, out: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(place.path(out)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().contains("-sample-"));
    files.sort();
    assert_eq!(files.len(), 2, "{out}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A picture of the tiny network's size, data units.
fn picture() -> Tensor {
    Seeded(vec![3]).like(&Tensor::zeros([1, 1, 8, 8], F32), 0, 0) * 0.3
}

#[test]
fn what_an_operator_does_not_see_is_found() {
    let hidden = |json: &str, shape: [i64; 3]| {
        let seen = build(json, shape).seen(shape, (Kind::Double, Device::Cpu)).unwrap();
        seen.entries.logical_not().sum(Kind::Int64).int64_value(&[])
    };
    assert_eq!(hidden(r#"{"kind": "inpaint-random", "hidden": 0.75}"#, [1, 8, 8]), 48);
    assert_eq!(hidden(r#"{"kind": "deblur-gaussian"}"#, [1, 16, 16]), 0);
    // Hidden after a blur, and in two channels.
    let compose = r#"{"kind": "compose", "tasks": ["deblur-gaussian", {"kind": "inpaint-random", "hidden": 0.5}]}"#;
    assert_eq!(hidden(compose, [2, 8, 8]), 64);
    // 2 of 8 columns, of 64 frequencies 16; of a real image the imaginary part of frequency 0, and of that of half the
    // side's, is 0. Column 4 is in the middle; with rows 0 and 4.
    let mri = hidden(r#"{"kind": "mri-cartesian"}"#, [1, 8, 8]);
    assert_eq!(mri, 98, "{mri}");
    // Rays beside the picture.
    assert_eq!(hidden(r#"{"kind": "tomography", "angles": [0], "detectors": 12}"#, [1, 8, 8]), 4);
    assert_eq!(hidden(r#"{"kind": "high-dynamic-range"}"#, [1, 8, 8]), 0);
}

#[test]
fn values_that_the_task_hides_change_nothing() {
    let place = Place::new();
    let cases =
        [("inpaint-random", "mmps"), ("inpaint-random", "dps"), ("inpaint-random", "mcg"), ("mri-cartesian", "mmps")];
    for (task, method) in cases {
        let operator = build(&format!(r#"{{"kind": "{task}"}}"#), [1, 8, 8]);
        let seen = operator.seen([1, 8, 8], (Kind::Double, Device::Cpu)).unwrap();
        let y = operator.apply(&picture().to_kind(Kind::Double)) + 0.01;
        images::write_npy(&place.path("a.npy"), &seen.alone(&y)).unwrap();
        images::write_npy(
            &place.path("b.npy"),
            &y.where_self(&seen.entries, &Tensor::full([1], 7.0, (Kind::Double, Device::Cpu))),
        )
        .unwrap();
        for name in ["a", "b"] {
            let (file, out) = (format!("{name}.npy"), format!("{task}-{method}-{name}"));
            let said = place.run(&restore(&file, &["--task", task, "--method", method], &out));
            let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
            assert_eq!(said.contains("lie where the task sees nothing"), name == "b", "{said}");
        }
        let [a, b] = ["a", "b"].map(|name| samples(&place, &format!("{task}-{method}-{name}")));
        assert!(a == b, "{task}, {method}");
    }
}

#[test]
fn pixels_of_0_to_1_are_restored_as_those_of_data_units() {
    let place = Place::new();
    let task = r#"{"kind": "tomography", "angles": 6}"#;
    let operator = build(task, [1, 8, 8]);
    let x = picture().to_kind(Kind::Double);
    images::write_npy(&place.path("data.npy"), &operator.apply(&x)).unwrap();
    // A sinogram alone, without the dimensions of one image and one channel.
    images::write_npy(&place.path("unit.npy"), &operator.apply(&((&x + 1.0) / 2.0)).squeeze()).unwrap();
    let said = |file: &str, flags: &[&str], out: &str| {
        let output = place.run(&restore(file, &[&["--task", task, "--states"], flags].concat(), out));
        assert!(output.status.success());
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(said("data.npy", &[], "data").contains("taken to be of pixels −1 … 1, as its negative values say"));
    assert!(!said("unit.npy", &["--units", "0-1"], "unit").contains("taken to be"));
    let wrong = said("unit.npy", &[], "wrong");
    assert!(wrong.contains("no value of it is negative: --units 0-1 is for pixels 0 … 1"), "{wrong}");
    let state = |out: &str, name: &str| Tensor::read_npy(place.path(&format!("{out}/{name}-sample-000.npy"))).unwrap();
    let apart = number(&(state("data", "data") - state("unit", "unit")).abs().max());
    assert!(apart < 1e-4, "{apart}");
    assert!(number(&(state("data", "data") - state("wrong", "unit")).abs().max()) > 0.1);
    let told = place.complaint(&restore("unit.npy", &["--task", "phase-retrieval", "--units", "0-1"], "no"));
    assert!(told.contains("--units") || told.contains("shape"), "{told}");
    // The transpose is named where its shape tells.
    images::write_npy(&place.path("turned.npy"), &operator.apply(&x).squeeze().tr().contiguous()).unwrap();
    let told = place.complaint(&restore("turned.npy", &["--task", task], "no"));
    assert!(told.starts_with("turned.npy: ") && told.contains("it is the transpose of that"), "{told}");
}

/// The bytes of an array of complex64, as NumPy writes them.
fn complex64(parts: &Tensor) -> Vec<u8> {
    let size = parts.size();
    let mut file = tweedie::files::npz::header("<c8", &size[..size.len() - 1]);
    for value in Vec::<f32>::try_from(parts.to_kind(Kind::Float).flatten(0, -1)).unwrap() {
        file.extend(value.to_le_bytes());
    }
    file
}

#[test]
fn complex_k_space_is_its_two_parts() {
    let place = Place::new();
    let operator = build(r#"{"kind": "mri-cartesian"}"#, [1, 8, 8]);
    let y = operator.apply(&picture().to_kind(Kind::Double));
    images::write_npy(&place.path("parts.npy"), &y).unwrap();
    fs::write(place.path("complex.npy"), complex64(&y.get(0).permute([1, 2, 0]).contiguous())).unwrap();
    for file in ["parts", "complex"] {
        place.succeed(&restore(&format!("{file}.npy"), &["--task", "mri-cartesian"], file));
    }
    assert!(samples(&place, "parts") == samples(&place, "complex"));
}

#[test]
fn the_mask_of_a_scan_is_a_file() {
    let place = Place::new();
    let columns = Tensor::from_slice(&[0.0f32, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    images::write_npy(&place.path("columns.npy"), &columns).unwrap();
    let whole = (columns.unsqueeze(0).expand([8, 8], false) * 255.0).unsqueeze(0).to_kind(Kind::Uint8);
    images::write_png(&place.path("whole.png"), &whole).unwrap();
    let full = build(r#"{"kind": "mri-cartesian", "acceleration": 1}"#, [1, 8, 8]);
    let y = full.apply(&picture().to_kind(Kind::Double));
    images::write_npy(&place.path("y.npy"), &y).unwrap();
    for (mask, out) in [("columns.npy", "a"), ("whole.png", "b")] {
        place.succeed(&restore("y.npy", &["--task", &format!("{{kind: mri-mask, mask: {mask}}}")], out));
    }
    assert!(samples(&place, "a") == samples(&place, "b"));
    // Zeros where the mask shows: it is not that of the scan.
    images::write_npy(&place.path("zeros.npy"), &(y * columns.to_kind(Kind::Double))).unwrap();
    let told = place.complaint(&restore("zeros.npy", &["--task", "mri-cartesian"], "c"));
    assert!(told.starts_with("zeros.npy: ") && told.contains("exactly 0") && told.contains("mri-mask"), "{told}");
    place.succeed(&restore("zeros.npy", &["--task", "{kind: mri-mask, mask: columns.npy}"], "d"));
    assert!(samples(&place, "a") == samples(&place, "d"));
}

#[test]
fn the_archive_of_a_restoration_is_restored_again() {
    let place = Place::new();
    place.image("photo.png", [1, 8, 8], 90);
    let mask = Tensor::from_slice(&[0u8, 255]).repeat([1, 8, 4].as_slice());
    images::write_png(&place.path("mask.png"), &mask).unwrap();
    images::write_npy(&place.path("kernel.npy"), &Tensor::from_slice(&[0.2f32, 0.5, 0.3]).view([1, 3])).unwrap();
    let ways = [
        vec!["--task", "{kind: inpaint-random, hidden: 0.5}", "--noise", "0.1", "--seed", "4"],
        vec!["--mask", "mask.png", "--noise", "0.02"],
        vec!["--kernel", "kernel.npy"],
    ];
    for (i, way) in ways.iter().enumerate() {
        let (first, again) = (format!("first{i}"), format!("again{i}"));
        let command = ["restore", "tiny.safetensors", "--image", "photo.png", "--steps", "4", "--samples", "2"];
        place.succeed(&[&command[..], way, &["--out", &first]].concat());
        let archive = format!("{first}/measurement.npz");
        let flags = if i == 0 { vec!["--seed", "4"] } else { Vec::new() };
        for file in ["mask.png", "kernel.npy"] {
            let (here, away) = (place.path(file), place.path(&format!("{file}.away")));
            fs::rename(&here, &away).unwrap();
        }
        place.succeed(&restore(&archive, &flags, &again));
        for file in ["mask.png", "kernel.npy"] {
            fs::rename(place.path(&format!("{file}.away")), place.path(file)).unwrap();
        }
        assert!(samples(&place, &first) == samples(&place, &again), "{way:?}");
    }
    let told = place.complaint(&restore("first0/measurement.npz", &["--task", "identity"], "no"));
    assert!(told.contains("leave --task, --mask and --kernel out"), "{told}");
    let told = place.complaint(&restore("y.npz", &[], "no"));
    assert!(told.starts_with("y.npz: cannot be read"), "{told}");
    images::write_npy(&place.path("y.npy"), &picture()).unwrap();
    let told = place.complaint(&restore("y.npy", &[], "no"));
    assert!(told.starts_with("--task: none was given"), "{told}");
}

#[test]
fn a_residual_far_from_1_names_its_likely_causes() {
    let place = Place::new();
    images::write_npy(&place.path("y.npy"), &(picture() + 30.0)).unwrap();
    let output = place.run(&restore("y.npy", &["--task", "identity"], "out"));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("where about 1 is wanted") && said.contains("another axis or order of angles"), "{said}");
}

/// PSNR is that of the pictures, and the PSNR by smallest and largest values that of the unclipped images.
#[test]
fn figures_are_those_of_what_is_written() {
    let place = Place::new();
    place.image("photo.png", [1, 8, 8], 250);
    let command = ["restore", "tiny.safetensors", "--image", "photo.png", "--task", "inpaint-random", "--steps", "4"];
    place.succeed(&[&command[..], &["--samples", "1", "--min-max", "--states", "--out", "out"]].concat());
    let read =
        |name: &str| images::to_unit(&images::from_bytes(&images::read(&place.path(name), 1).unwrap())).unsqueeze(0);
    let (sample, truth) = (read("out/photo-sample-000.png"), read("out/photo-truth.png"));
    let state = images::to_unit(&Tensor::read_npy(place.path("out/photo-sample-000.npy")).unwrap()).unsqueeze(0);
    assert!(number(&(&state - &sample).abs().max()) > 0.05, "clipping matters");
    let row: Value = serde_json::from_slice(&fs::read(place.path("out/photo.json")).unwrap()).unwrap();
    let told = |name: &str| row["truth"]["sample"][name].as_f64().unwrap();
    assert!((told("psnr") - metrics::psnr(&sample, &truth)[0]).abs() < 1e-4);
    assert!((told("psnr_min_max") - metrics::psnr_min_max(&state, &truth)[0]).abs() < 1e-4);
}

/// The phantom of tests/parity/tomography.py.
fn phantom(n: i64) -> Tensor {
    let at = (Tensor::arange(n, (Kind::Double, Device::Cpu)) - 0.5 * (n - 1) as f64) / n as f64;
    let disc = |middle: [f64; 2], width: f64, height: f64| {
        let square = (at.unsqueeze(0) - middle[0]).square() + (at.unsqueeze(1) - middle[1]).square();
        (square / (-2.0 * width * width)).exp() * height
    };
    let discs = disc([-0.12, 0.08], 0.12, 1.0) + disc([0.15, -0.1], 0.1, 0.7) + disc([0.02, 0.2], 0.09, 0.5);
    discs.view([1, 1, n, n])
}

fn scanners() -> Value {
    serde_json::from_str(include_str!("golden/scanners.json")).unwrap()
}

/// The table of `tweedie tasks tomography`, at even sizes, where the packages differ.
#[test]
fn sinograms_of_other_packages_are_read_as_the_table_says() {
    for case in scanners()["sinograms"].as_array().unwrap() {
        let (from, n) = (case["from"].as_str().unwrap(), case["side"].as_i64().unwrap());
        let values: Vec<f64> = serde_json::from_value(case["y"].clone()).unwrap();
        let shape: Vec<i64> = serde_json::from_value(case["shape"].clone()).unwrap();
        let theirs = Tensor::from_slice(&values).view(shape.as_slice());
        let theirs = if ["astra", "ODL"].contains(&from) { theirs } else { theirs.tr() };
        let wide = (std::f64::consts::SQRT_2 * n as f64).ceil() as i64;
        let (settings, turned) = match from {
            "astra" | "deepinv, circle=True" => (String::new(), false),
            "ODL" => (r#", "first": 10"#.to_owned(), true),
            "deepinv, circle=False" => {
                (format!(r#", "axis": {}"#, (n / 2) as f64 - if wide % 2 == 1 { 0.0 } else { 0.5 }), false)
            }
            _ => (format!(r#", "axis": {}"#, n / 2), false),
        };
        let task = format!(r#"{{"kind": "tomography", "angles": 9, "detectors": {}{settings}}}"#, theirs.size()[1]);
        let x = if turned { phantom(n).rot90(1, [2i64, 3].as_slice()) } else { phantom(n) };
        let ours = build(&task, [1, n, n]).apply(&x).squeeze();
        let apart = number(&(&ours - &theirs).norm()) / number(&theirs.norm());
        assert!(apart < 6e-3, "{from}, {n}: {apart}");
    }
}

#[test]
fn the_middle_columns_are_those_of_fastmri_at_every_width() {
    for (width, kept) in (16..).zip(scanners()["columns"].as_array().unwrap()) {
        let (first, count) = (kept[0].as_i64().unwrap(), kept[1].as_i64().unwrap());
        // As many columns as the middle has: no others.
        let acceleration = width as f64 / count as f64;
        let task = format!(r#"{{"kind": "mri-cartesian", "center": 0.08, "acceleration": {acceleration}}}"#);
        let mask = build(&task, [1, 2, width]).linear().unwrap().tables().remove(0).1;
        let columns = Vec::<i64>::try_from(mask.get(0).to_kind(Kind::Int64)).unwrap();
        let wanted: Vec<i64> = (0..width).map(|i| i64::from((first..first + count).contains(&i))).collect();
        assert_eq!(columns, wanted, "{width}");
    }
}

#[test]
fn tasks_with_singular_vectors_are_listed_as_they_are() {
    let place = Place::new();
    place.image("photo.png", [1, 8, 8], 90);
    let ddrm = |task: &str| {
        let command = ["restore", "tiny.safetensors", "--image", "photo.png", "--method", "ddrm", "--steps", "3"];
        place.run(&[&command[..], &["--samples", "1", "--task", task, "--out", task]].concat())
    };
    let refused = String::from_utf8(ddrm("tomography").stderr).unwrap();
    for task in ["colorization", "compressed-sensing", "mri-cartesian", "deblur-gaussian", "deblur-motion if circular"]
    {
        assert!(refused.contains(task), "{task}: {refused}");
    }
    assert!(!refused.contains("tomography,") && !refused.contains("compose"), "{refused}");
    assert!(!ddrm("{kind: compose, tasks: [deblur-gaussian, inpaint-random]}").status.success());
    assert!(ddrm("deblur-gaussian").status.success());
    let listed = place.succeed(&["methods"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(listed.contains("deblur-motion if circular"), "{listed}");
}

#[test]
fn angles_and_axis_are_checked() {
    let refused = |json: &str| {
        let task = serde_json::from_str::<AnyTask>(json).map_err(|e| e.to_string());
        let built = task.and_then(|task| {
            task.get().operator([1, 8, 8], 0, Device::Cpu, Kind::Float).map(|_| ()).map_err(|e| e.to_string())
        });
        built.unwrap_err()
    };
    let told = refused(r#"{"kind": "tomography", "angles": [0, 45], "first": 3}"#);
    assert_eq!(told, "first must be left out where angles are listed, but is 3");
    assert!(
        refused(r#"{"kind": "tomography", "angles": "many"}"#).contains("angles must be a whole number, or a list")
    );
    assert!(refused(r#"{"kind": "tomography", "axis": 40}"#).contains("a row and a column of the image"));
    assert!(refused(r#"{"kind": "tomography", "angles": []}"#).contains("at least 1"));
    // A list of the same angles is the same operator.
    let x = picture().to_kind(Kind::Double);
    let [number, list] = [r#""angles": 4, "first": 10"#, r#""angles": [10, 55, 100, 145]"#]
        .map(|angles| build(&format!(r#"{{"kind": "tomography", {angles}}}"#), [1, 8, 8]).apply(&x));
    assert!(f64::try_from((number - list).abs().max()).unwrap() < 1e-12);
}

/// A denoiser that looks at few pixels takes images of any size as it took them when their size was set by hand.
#[test]
fn images_of_any_size_are_restored_by_a_local_denoiser() {
    let place = Place::new();
    let network = fs::canonicalize("tests/golden/zoo/ffdnet-ipol-gray/model.pth").unwrap();
    let network = network.to_str().unwrap();
    let pixels = ((Tensor::arange(24 * 40, F32) * 0.37).sin() * 100.0 + 120.0).view([1, 24, 40]).to_kind(Kind::Uint8);
    images::write_png(&place.path("photo.png"), &pixels).unwrap();
    let run = |flags: &[&str], out: &str| {
        let command = ["restore", network, "--steps", "3", "--samples", "2", "--out", out];
        place.succeed(&[&command[..], flags].concat());
        samples(&place, out)
    };
    for method in ["mmps", "dps"] {
        let photo = ["--image", "photo.png", "--task", "inpaint-random", "--method", method];
        let free = run(&photo, &format!("{method}-free"));
        let set = run(&[&photo[..], &["--set", "image=[1, 24, 40]"]].concat(), &format!("{method}-set"));
        assert!(free == set, "{method}");
    }
    // DPS' own chain begins at σ = 157, this network's range ends at 2 · 75/255.
    let record: Value = serde_json::from_slice(&fs::read(place.path("dps-free/record.json")).unwrap()).unwrap();
    assert_eq!(record["plan"]["schedule"]["kind"], "geometric", "{record}");
    // A measurement is of images of its own size, or of larger ones.
    let size = |out: &str| images::read_as_is(&place.path(&format!("{out}/photo-mean.png"))).unwrap().size();
    run(&["--measurement", "photo.png", "--task", "identity"], "same");
    assert_eq!(size("same"), [1, 24, 40]);
    run(&["--measurement", "photo.png", "--task", "{kind: super-resolution, factor: 2}"], "larger");
    assert_eq!(size("larger"), [1, 48, 80]);
    let colours = Tensor::zeros([3, 24, 40], (Kind::Uint8, Device::Cpu));
    images::write_png(&place.path("colours.png"), &colours).unwrap();
}
