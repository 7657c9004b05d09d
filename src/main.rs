//! Temporary: training.
use tweedie::train::*;
fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&a[1])?;
    let config: Training = serde_yaml::from_str(&text)?;
    let mut t = if a.get(2).is_some() { Trainer::resume(config, tch::Device::Cpu)? } else { Trainer::new(config, tch::Device::Cpu)? };
    let n: usize = t.average().values().map(tch::Tensor::numel).sum();
    println!("{n} parameters");
    let start = std::time::Instant::now(); let mut sum = 0.0; let s0 = t.step();
    while t.step() < t.config().steps {
        sum += f64::try_from(t.advance()?)?;
        if t.step() % 20 == 0 { println!("{} {:.5} {:.1}s", t.step(), sum / 20.0, start.elapsed().as_secs_f64()); sum = 0.0; }
        if t.step() % t.config().checkpoint_every == 0 { t.save()?; }
    }
    let _ = s0; t.save()?; t.export(&t.config().out.join("model.safetensors"), "")?;
    Ok(())
}
