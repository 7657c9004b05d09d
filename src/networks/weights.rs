//! Named tensors on their way into a network, read from a file or drawn afresh.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Display},
    ops::Div,
};

use tch::{Device, Kind, Tensor};

use super::layers::channels_last;
use crate::{Error, numbers::stream};

/// Name of the frequencies of an embedding: angles need all their digits.
pub const FREQUENCIES: &str = "frequencies";

/// Distribution of a fresh parameter.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// Uniform in ±1/√(fan in), as `torch.nn.Conv2d` and `torch.nn.Linear` do.
    FanIn(i64),
    /// One value.
    Constant(f64),
}

/// A tensor of this name as a network on `device` that computes in `kind` holds it; frequencies are f32 always.
///
/// On a GPU the taps of convolutions lie as images do, channels side by side: cuDNN would rearrange them at every evaluation.
pub fn placed(name: &str, tensor: &Tensor, device: Device, kind: Kind) -> Tensor {
    let kind = if name.ends_with(FREQUENCIES) { Kind::Float } else { kind };
    let tensor = tensor.to_device(device).to_kind(kind);
    if device.is_cuda() && tensor.dim() == 4 { channels_last(&tensor) } else { tensor }
}

/// The parameters of one network, by the names that its checkpoint gives them.
///
/// Networks ask for each tensor by name and shape. What a file lacks, or holds in another shape, is noted and
/// replaced by zeros, so that [`Weights::finish`] can name everything that is wrong at once.
pub struct Weights {
    stored: Option<RefCell<BTreeMap<String, Tensor>>>,
    seed: u64,
    device: Device,
    /// The kind of the network's numbers.
    kind: Kind,
    named: RefCell<Vec<(String, Tensor)>>,
    problems: RefCell<Vec<String>>,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights").field("named", &self.named.borrow().len()).finish_non_exhaustive()
    }
}

impl Weights {
    /// Parameters drawn from `seed`, for training: f32, in a network that computes in `kind`.
    pub fn fresh(seed: u64, device: Device, kind: Kind) -> Self {
        Self { stored: None, seed, device, kind, named: RefCell::default(), problems: RefCell::default() }
    }

    /// Parameters read from a file, [`placed`] where they are not yet.
    pub fn stored(tensors: BTreeMap<String, Tensor>, device: Device, kind: Kind) -> Self {
        let placed = |(name, tensor): (String, Tensor)| {
            let tensor = placed(&name, &tensor, device, kind);
            (name, tensor)
        };
        Self::given(tensors.into_iter().map(placed).collect(), device, kind)
    }

    /// The parameters of another network as they are, for a replica of it that computes in `kind`: the two share them.
    pub fn shared(parameters: &[(String, Tensor)], device: Device, kind: Kind) -> Self {
        let tensors = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self::given(tensors, device, kind)
    }

    fn given(tensors: BTreeMap<String, Tensor>, device: Device, kind: Kind) -> Self {
        Self { stored: Some(RefCell::new(tensors)), ..Self::fresh(0, device, kind) }
    }

    /// Begin of all names.
    pub fn root(&self) -> Path<'_> {
        Path { weights: self, name: String::new() }
    }

    /// All parameters in the order in which the network asked for them, if the file held these and no others.
    pub fn finish(self) -> Result<Vec<(String, Tensor)>, Error> {
        let mut problems = self.problems.into_inner();
        if let Some(left) = self.stored {
            problems.extend(left.into_inner().into_keys().map(|name| format!("{name} is left over")));
        }
        if problems.is_empty() { Ok(self.named.into_inner()) } else { Err(Error::Keys(problems)) }
    }

    fn take(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let tensor = match &self.stored {
            None => self.draw(shape, init),
            Some(stored) => match stored.borrow_mut().remove(name) {
                Some(tensor) if tensor.size() == shape => tensor,
                found => {
                    self.problems.borrow_mut().push(match found {
                        None => format!("{name} {shape:?} is missing"),
                        Some(tensor) => format!("{name} is {:?}, not {shape:?}", tensor.size()),
                    });
                    // One zero in their place: a hostile file may claim any shape.
                    let zero = Tensor::zeros([1], (self.kind, self.device));
                    zero.f_expand(shape, false).unwrap_or(zero)
                }
            },
        };
        self.named.borrow_mut().push((name.to_owned(), tensor.shallow_clone()));
        tensor
    }

    fn draw(&self, shape: &[i64], init: Init) -> Tensor {
        let options = (Kind::Float, self.device);
        match init {
            Init::Constant(value) => Tensor::full(shape, value, options),
            Init::FanIn(fan) => {
                let bound = (fan as f64).sqrt().recip();
                let count = shape.iter().product::<i64>() as usize;
                let draw = self.named.borrow().len() as u64;
                let values: Vec<f32> =
                    stream::uniform(self.seed, 0, draw).take(count).map(|u| (bound * (2.0 * u - 1.0)) as f32).collect();
                Tensor::from_slice(&values).reshape(shape).to_device(self.device)
            }
        }
    }
}

/// A place among the names; `&path / "conv1"` goes one dot down.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    weights: &'a Weights,
    name: String,
}

impl<'a, T: Display> Div<T> for &Path<'a> {
    type Output = Path<'a>;

    fn div(self, part: T) -> Path<'a> {
        let dot = if self.name.is_empty() { "" } else { "." };
        Path { weights: self.weights, name: format!("{}{dot}{part}", self.name) }
    }
}

impl<T: Display> Div<T> for Path<'_> {
    type Output = Self;

    fn div(self, part: T) -> Self {
        &self / part
    }
}

impl Path<'_> {
    /// The tensor `name` below this place.
    pub fn tensor(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.weights.take(&(self / name).name, shape, init)
    }

    /// The kind in which the network computes.
    pub fn kind(&self) -> Kind {
        self.weights.kind
    }

    /// Device of the tensors.
    pub fn device(&self) -> Device {
        self.weights.device
    }
}
