//! What `task:` may name: the operators, those that a file defines, and one after another.

mod compose;
mod mask;
mod torchscript;

pub use compose::Compose;
pub use mask::InpaintMask;
pub use torchscript::Torchscript;

use crate::{
    inverse::operators::{
        Colorization, CompressedSensing, DeblurAnisotropic, DeblurGaussian, DeblurMotion, DeblurUniform,
        HighDynamicRange, Identity, InpaintBox, InpaintExtreme, InpaintHalf, InpaintRandom, MriCartesian, MriRadial,
        PhaseRetrieval, SuperResolution, Task, Tomography,
    },
    numbers::registry::one_of,
};

one_of! {
    /// What `task:` may name.
    pub enum AnyTask: Task {
        Colorization, Compose, CompressedSensing, DeblurAnisotropic, DeblurGaussian, DeblurMotion, DeblurUniform,
        HighDynamicRange, Identity, InpaintBox, InpaintExtreme, InpaintHalf, InpaintMask, InpaintRandom, MriCartesian,
        MriRadial, PhaseRetrieval, SuperResolution, Tomography, Torchscript
    }
}
