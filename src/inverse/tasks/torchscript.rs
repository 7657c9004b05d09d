//! Any map that a TorchScript program computes.

use std::path::PathBuf;

use tch::{Device, Kind};

use crate::{
    Error,
    inverse::operators::{Operator, Program, Task},
    models::card,
    numbers::registry::entry,
};

entry! {
    name: "torchscript",
    what: "a program computes A(x)",
    source: "",
    facts: { map: "nonlinear", random: "no" },
    example: "{kind: torchscript, file: blur.pt, norm: 1}",
    /// A(x) = `forward(x)` of a TorchScript program: a nonlinear blur, a renderer, a network.
    ///
    /// x is `[batch, channels, height, width]`, pixels in −1 … 1; the answer is a tensor `[batch, …]`, or a tuple that begins with
    /// one. The program is run: it must be one that the user trusts.
    pub struct Torchscript {
        /// File that torch.jit.save wrote.
        pub file: PathBuf => "a TorchScript program",
        /// A bound of ‖∂A/∂x‖, by which steps are kept short.
        pub norm: f64 => "> 0",
    }
}

impl Task for Torchscript {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let module = card::script(&self.file, device, kind)?;
        let program = Program::new(module, self.norm, shape, device, kind).map_err(|e| Error::file(&self.file, e))?;
        Ok(Operator::Nonlinear(Box::new(program)))
    }
}
