//! Names and shapes, as `name=1,2,3` in lines: recognised or not, and built without a number behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tch::{Device, Kind};
use tweedie::{
    models::zoo::{self, Contents, Shapes},
    networks::weights::Weights,
};

fuzz_target!(|text: &str| {
    let entry = |line: &str| {
        let (name, sizes) = line.split_once('=')?;
        let sizes: Option<Vec<i64>> = sizes.split(',').map(|size| size.parse::<u16>().ok().map(i64::from)).collect();
        Some((name.to_owned(), sizes?))
    };
    let shapes: Shapes = text.lines().filter_map(entry).collect();
    let contents = Contents::described("fuzz", shapes, Default::default());
    let Ok(recognised) = zoo::recognise(&contents) else { return };
    if let Ok(tensors) = recognised.tensors(&contents, Device::Cpu, Kind::Float) {
        let weights = Weights::stored(tensors, Device::Cpu, Kind::Float);
        let _ = recognised.card.network.build(&weights);
        let _ = weights.finish();
    }
});
