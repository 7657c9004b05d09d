//! Tensors on their way from a device to the memory of this machine.

use tch::{Device, Tensor};

use crate::{
    Error,
    backend::cuda::{Event, Stream},
};

/// A copy on the CPU. From a GPU it comes by a stream of its own, while the device goes on with other work.
#[derive(Debug)]
pub struct HostCopy {
    here: Tensor,
    /// When it is there, and what is copied, whose memory nothing else may take until then.
    due: Option<(Event, Tensor)>,
}

impl HostCopy {
    /// Begins to copy `x` as it will be when all that was asked of the device so far is done.
    pub fn start(x: &Tensor) -> Self {
        let begun = match x.device() {
            Device::Cuda(index) => Self::begin(x, index).ok(),
            _ => None,
        };
        begun.unwrap_or_else(|| Self { here: x.to_device(Device::Cpu), due: None })
    }

    fn begin(x: &Tensor, index: usize) -> Result<Self, String> {
        let (own, other) = (Stream::current(index)?, Stream::another(index)?);
        other.after(&own.event()?)?;
        // A copy that does not block goes into pages that the system does not move.
        let here = other.run(|| x.f_to_device_(Device::Cpu, x.kind(), true, false))?;
        let here = here.map_err(|e| e.to_string())?;
        Ok(Self { here, due: Some((other.event()?, x.shallow_clone())) })
    }

    /// The copy, once it is whole.
    pub fn wait(self) -> Result<Tensor, Error> {
        if let Some((event, _)) = &self.due {
            event.wait().map_err(Error::Cuda)?;
        }
        Ok(self.here)
    }
}
