//! One task after another.

use tch::{Device, Kind, Tensor};

use super::AnyTask;
use crate::{
    Error,
    inverse::operators::{ComposedNonlinearOperator, ComposedOperator, LinearOperator, Operator, Task},
    numbers::registry::entry,
};

entry! {
    name: "compose",
    what: "one task after another",
    source: "",
    facts: { map: "linear if its tasks are", random: "as its tasks" },
    example: "{kind: compose, tasks: [deblur-gaussian, inpaint-random]}",
    /// A(x) = Aₙ(… A₂(A₁(x))): what the first makes of the image is given to the second, and so on; linear if all are.
    ///
    /// The i-th of them, counted from 0, has the seed of the whole and i, so that two random masks differ.
    pub struct Compose {
        /// The tasks in the order in which they happen.
        pub tasks: Vec<AnyTask> => "a list of tasks, at least one",
    }
}

impl Compose {
    fn parts(&self, mut shape: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Vec<Operator>, Error> {
        let mut parts = Vec::new();
        for (i, task) in self.tasks.iter().enumerate() {
            let operator = task.get().operator(shape, seed.wrapping_add(i as u64), device, kind)?;
            let blank = Tensor::f_zeros([&[1], &shape[..]].concat(), (kind, device))?;
            let size = tch::no_grad(|| operator.apply(&blank)).size();
            parts.push(operator);
            match size[..] {
                [_, channels, height, width] => shape = [channels, height, width],
                _ if i + 1 == self.tasks.len() => {}
                _ => {
                    let value = format!("{size:?} after task {}", i + 1);
                    return Err(Error::parameter("the output of every task but the last", "an image", value));
                }
            }
        }
        Ok(parts)
    }
}

/// All of them, if all are linear; otherwise as they are.
fn linear(parts: Vec<Operator>) -> Result<Vec<Box<dyn LinearOperator>>, Vec<Operator>> {
    if parts.iter().any(|part| part.linear().is_none()) {
        return Err(parts);
    }
    let one = |part| match part {
        Operator::Linear(part) => Some(part),
        Operator::Nonlinear(_) => None,
    };
    Ok(parts.into_iter().filter_map(one).collect())
}

impl Task for Compose {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        if self.tasks.is_empty() {
            return Err(Error::parameter("tasks", "a list of at least one task", "empty"));
        }
        let parts = match linear(self.parts(shape, seed, device, kind)?) {
            Ok(parts) => parts,
            Err(parts) => return Ok(Operator::Nonlinear(Box::new(ComposedNonlinearOperator(parts)))),
        };
        let exact = linear(self.parts(shape, seed, Device::Cpu, Kind::Double)?).unwrap_or_default();
        Ok(ComposedOperator::new(parts, &exact, shape)?.into())
    }
}
