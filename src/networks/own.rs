//! Networks of the caller's own: a type or a closure in place of a file.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Network;
use crate::Error;

/// Configuration of a network that the calling program holds: empty, since no file can hold the network.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {}

/// A network that the calling program holds. Its replicas are one network, which computes for one thread at a time.
#[derive(Clone)]
pub struct Own(Arc<Mutex<Box<dyn Network>>>);

impl Own {
    /// Takes the network over.
    pub fn new(network: impl Network + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(network))))
    }

    fn held(&self) -> MutexGuard<'_, Box<dyn Network>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({:?})", self.held())
    }
}

impl Network for Own {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        self.held().forward(x, label, class)
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        self.held().check(shape)
    }

    fn classes(&self) -> Option<i64> {
        self.held().classes()
    }

    fn null_class(&self) -> Option<i64> {
        self.held().null_class()
    }
}

/// F(x, label) by a closure: `x` is `[batch, channels, height, width]`, `label` `[batch]`.
///
/// Its parameters must be on the device and of the kind of the images that it is given.
pub struct FnNetwork<F>(pub F);

impl<F> fmt::Debug for FnNetwork<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnNetwork")
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Tensor + Send> Network for FnNetwork<F> {
    fn forward(&self, x: &Tensor, label: &Tensor, _: Option<&Tensor>) -> Tensor {
        (self.0)(x, label)
    }
}
