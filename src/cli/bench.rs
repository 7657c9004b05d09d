//! `tweedie bench`: the speed of a network on this machine.

use anyhow::Result;
use serde_json::json;
use tweedie::{
    backend::kernels,
    models::card::Model,
    run::{
        bench::{Bench, BenchRequest, BenchRow, PeerRequest},
        session::Session,
    },
};

use super::args::bench::BenchArgs;

impl BenchArgs {
    pub fn run(&self) -> Result<()> {
        let session = self.device.session()?;
        let model = self.source.open(&self.model, &session, &self.output)?;
        let mut bench = Bench::new(&self.request(), &model, &session)?;
        self.output.say(header(&session, bench.peak()));
        let (mut rows, observer) = (Vec::new(), self.output.observer());
        for &batch in &self.batches {
            let row = bench.row(batch, &observer)?;
            self.output.say(line(&row));
            rows.push(row);
        }
        self.finish(&model, &session, bench.peak(), &rows)
    }

    fn request(&self) -> BenchRequest {
        let peer = self.compare.then(|| PeerRequest {
            python: self.python.clone(),
            script: self.peer.clone(),
            model: self.model.clone().into(),
            compiled: self.compiled,
            rounds: self.rounds,
        });
        BenchRequest { steps: self.steps, gradient: self.gradient, peer }
    }

    fn finish(&self, model: &Model, session: &Session, peak: f64, rows: &[BenchRow]) -> Result<()> {
        let best = rows.iter().max_by(|a, b| a.images_per_second.total_cmp(&b.images_per_second));
        let best = best.map(|row| row.batch);
        self.output.say(format_args!("best batch: {}", best.unwrap_or_default()));
        let (threads, refusals) = (tch::get_num_threads(), model.denoiser.network.refusals());
        for why in &refusals {
            self.output.say(format_args!("note: launched layer by layer: {why}"));
        }
        self.output.record(&json!({
            "model": model.card.name, "arithmetic": session.arithmetic(), "threads": threads,
            "kernels": kernels::instructions(), "peak_teraflops": peak / 1e12, "rows": rows, "best_batch": best,
            "refusals": refusals,
        }))
    }
}

fn header(session: &Session, peak: f64) -> String {
    format!(
        "{} {}, kernels: {}; matrix peak {:.3} TFLOP/s\n{:>6} {:>12} {:>9} {:>7} {:>9} {:>9} {:>9} {:>7} {:>8}  peer / ours",
        session.arithmetic(),
        if session.device.is_cuda() { "on CUDA" } else { "on the CPU" },
        kernels::instructions().unwrap_or("libtorch's"),
        peak / 1e12,
        "batch",
        "network ms",
        "rest ms",
        "rest %",
        "evals/s",
        "images/s",
        "TFLOP/s",
        "% peak",
        "memory MB"
    )
}

fn line(row: &BenchRow) -> String {
    let memory = row.peak_memory_mb.map_or("-".to_owned(), |mb| format!("{mb:.0}"));
    let ratio = row.ratio.map_or(String::new(), |ratio| format!("  {ratio:.2}"));
    let peer =
        row.peer_ms.zip(row.peer_memory_mb).map_or(String::new(), |(ms, mb)| format!(" ({ms:.1} ms, {mb:.0} MB)"));
    format!(
        "{:>6} {:>12.2} {:>9.2} {:>7.1} {:>9.1} {:>9.3} {:>9.3} {:>7.0} {memory:>9}{ratio}{peer}",
        row.batch,
        row.network_ms,
        row.rest_ms,
        100.0 * row.rest_ms / (row.network_ms + row.rest_ms),
        row.evaluations_per_second,
        row.images_per_second,
        row.teraflops,
        100.0 * row.share_of_peak,
    )
}
