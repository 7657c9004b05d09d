//! Sets of points on the line and in the plane whose scores are exact: where a method can be seen without a network.

use std::f64::consts::{PI, TAU};

use tch::{Device, Kind, Tensor};

use crate::{
    Error,
    numbers::{
        registry::{entry, one_of},
        sde::{AnySde, Sde},
        sigma::{at_least_zero, positive},
        stream,
    },
    scores::{
        analytic::Mixture,
        denoiser::Score,
        noise::{Noise, Seeded},
    },
};

/// A normal distribution, and how much of a set it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The weight, in proportion to those of the others.
    pub weight: f64,
    /// Mean, of one or two coordinates.
    pub place: Vec<f64>,
    /// The standard deviation of each coordinate.
    pub deviation: f64,
}

/// A set as the mixture of normal distributions that it is.
pub trait ToyData: std::fmt::Debug {
    /// All of them, in as many dimensions.
    fn components(&self) -> Result<Vec<Component>, Error>;
}

one_of! {
    {
        /// The entries that `data:` of an experiment on points may name.
        pub enum AnyToyData: ToyData = "set of points"
    },
    { toy: EightGaussians Line Moons Plane SwissRoll }
}

entry! {
    name: "line",
    what: "normal distributions on the line",
    source: "",
    example: "{kind: line, components: [[0.4, -0.8, 0.1], [0.6, 0.5, 0.2]]}",
    /// Normal distributions on the line.
    pub struct Line {
        /// Weight, mean and standard deviation of each.
        pub components: Vec<[f64; 3]> => "[weight, mean, deviation], …",
    }
}

impl ToyData for Line {
    fn components(&self) -> Result<Vec<Component>, Error> {
        let component = |[weight, mean, deviation]: &[f64; 3]| {
            let (weight, deviation) =
                (positive("every weight", *weight)?, at_least_zero("every deviation", *deviation)?);
            Ok(Component { weight, place: vec![*mean], deviation })
        };
        self.components.iter().map(component).collect()
    }
}

entry! {
    name: "plane",
    what: "normal distributions in the plane",
    source: "",
    example: "{kind: plane, components: [[0.5, -1, 0, 0.2], [0.5, 1, 0, 0.2]]}",
    /// Normal distributions in the plane.
    pub struct Plane {
        /// Weight, both coordinates of the mean, and standard deviation of each.
        pub components: Vec<[f64; 4]> => "[weight, x, y, deviation], …",
    }
}

impl ToyData for Plane {
    fn components(&self) -> Result<Vec<Component>, Error> {
        let component = |[weight, x, y, deviation]: &[f64; 4]| {
            let (weight, deviation) =
                (positive("every weight", *weight)?, at_least_zero("every deviation", *deviation)?);
            Ok(Component { weight, place: vec![*x, *y], deviation })
        };
        self.components.iter().map(component).collect()
    }
}

entry! {
    name: "eight-gaussians",
    what: "eight on a circle",
    source: "",
    /// Eight on a circle.
    #[derive(Copy)]
    pub struct EightGaussians {
        /// Radius of the circle.
        pub radius: f64 = 1.0 => "> 0" in "coordinates",
        /// Standard deviation of each.
        pub deviation: f64 = 0.1 => "> 0" in "coordinates",
    }
}

impl ToyData for EightGaussians {
    fn components(&self) -> Result<Vec<Component>, Error> {
        let deviation = positive("deviation", self.deviation)?;
        let place = |i: u32| self.radius * (TAU * f64::from(i) / 8.0).cos();
        let component = |i| Component { weight: 1.0, place: vec![place(i), place(i + 6)], deviation };
        Ok((0..8).map(component).collect())
    }
}

/// Declares a curve in the plane with normal noise around it.
macro_rules! curve {
    ($name:literal, $what:literal, $(#[doc = $doc:literal])+ $struct:ident, $deviation:literal) => {
        entry! {
            name: $name,
            what: $what,
            source: "",
            $(#[doc = $doc])+
            #[derive(Copy)]
            pub struct $struct {
                /// Standard deviation of the noise.
                pub deviation: f64 = $deviation => "> 0" in "coordinates",
                /// Number of points that stand for the curve.
                pub points: usize = 400 => "≥ 1",
            }
        }

        impl $struct {
            /// Places at u = 0 … 1, each as likely as the others.
            fn along(&self, place: impl Fn(f64) -> [f64; 2]) -> Result<Vec<Component>, Error> {
                let (deviation, points) =
                    (positive("deviation", self.deviation)?, crate::numbers::schedule::count("points", self.points)?);
                let u = |i: usize| (i as f64 + 0.5) / points as f64;
                let component = |i| Component { weight: 1.0, place: place(u(i)).to_vec(), deviation };
                Ok((0..points).map(component).collect())
            }
        }
    };
}

curve! {
    "swiss-roll", "a spiral",
    /// (r cos φ, r sin φ)/10 with r = φ from 1.5 π to 4.5 π, evenly in φ.
    SwissRoll, 0.05
}

impl ToyData for SwissRoll {
    fn components(&self) -> Result<Vec<Component>, Error> {
        self.along(|u| {
            let angle = 1.5 * PI * (1.0 + 2.0 * u);
            [angle * angle.cos() / 10.0, angle * angle.sin() / 10.0]
        })
    }
}

curve! {
    "moons", "two half circles",
    /// Two half circles that reach into each other.
    Moons, 0.1
}

impl ToyData for Moons {
    fn components(&self) -> Result<Vec<Component>, Error> {
        self.along(|u| match 2.0 * u {
            first if first < 1.0 => [(PI * first).cos() - 0.5, (PI * first).sin() - 0.25],
            second => [0.5 - (PI * (second - 1.0)).cos(), 0.25 - (PI * (second - 1.0)).sin()],
        })
    }
}

/// Kind and device in which the sets are computed.
const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

/// The exact denoiser of a set, whose points are images of one row.
pub fn denoiser(set: &dyn ToyData) -> Result<Mixture, Error> {
    let components = set.components()?;
    let column = |value: fn(&Component) -> f64| Tensor::from_slice(&components.iter().map(value).collect::<Vec<f64>>());
    let places: Vec<f64> = components.iter().flat_map(|component| component.place.iter().copied()).collect();
    let places = Tensor::from_slice(&places).reshape([components.len() as i64, 1, 1, -1]);
    Mixture::new(&column(|c| c.weight), &places, &column(|c| c.deviation * c.deviation))
}

/// `count` points of a set, `[count, 1, 1, dimensions]`: the same for the same seed.
pub fn draw(set: &dyn ToyData, count: usize, seed: u64) -> Result<Tensor, Error> {
    let components = set.components()?;
    let total: f64 = components.iter().map(|component| component.weight).sum();
    let mut uniform = stream::uniform(seed, 0, CHOICE);
    let mut normal = stream::normal(seed, 0, SPREAD);
    let mut values = Vec::new();
    for _ in 0..count {
        let mut left = total * uniform.next().unwrap_or(1.0);
        let chosen = components.iter().find(|component| {
            left -= component.weight;
            left <= 0.0
        });
        let Component { place, deviation, .. } = chosen.unwrap_or(&components[components.len() - 1]);
        values.extend(place.iter().zip(&mut normal).map(|(x, n)| x + deviation * n));
    }
    Ok(Tensor::from_slice(&values).reshape([count as i64, 1, 1, -1]))
}

const CHOICE: u64 = u64::from_be_bytes(*b"\0\0choice");
const SPREAD: u64 = u64::from_be_bytes(*b"\0\0spread");

/// Noise for a start, `[count, 1, 1, dimensions]`, one seed for each point.
pub fn start(count: usize, dimensions: i64, deviation: f64) -> (Seeded, Tensor) {
    let noise = Seeded((0..count as u64).collect());
    let x = noise.like(&Tensor::zeros([count as i64, 1, 1, dimensions], OPTIONS), 0, 0) * deviation;
    (noise, x)
}

/// Directions over which the sliced distance is averaged.
const DIRECTIONS: i64 = 64;

/// W₂ of two sets of equally many points: on the line that of their quantiles; in the plane the root mean square of that
/// over 64 directions [Bonneel et al. 2015].
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.flatten(1, -1), b.flatten(1, -1));
    let angle = Tensor::arange(DIRECTIONS, OPTIONS) * (PI / DIRECTIONS as f64);
    let directions = if a.size()[1] == 1 {
        angle.ones_like().narrow(0, 0, 1).unsqueeze(0)
    } else {
        Tensor::stack(&[angle.cos(), angle.sin()], 0)
    };
    let sorted = |x: &Tensor| x.matmul(&directions).sort(0, false).0;
    (sorted(&a) - sorted(&b)).square().mean(Kind::Double).double_value(&[]).sqrt()
}

/// A score that errs by a constant vector of length `error` in the frame of a process: s_z + e, which in x = z/α is s + α e.
#[derive(Debug)]
pub struct BiasedScore<'a> {
    /// The exact one.
    pub exact: &'a Mixture,
    /// The process.
    pub sde: &'a AnySde,
    /// ‖e‖.
    pub error: f64,
}

impl Score for BiasedScore<'_> {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        let sde: &dyn Sde = self.sde.get();
        let each = self.error / (x.size()[3] as f64).sqrt();
        self.exact.score(x, sigma) + sde.alpha(sde.time(sigma)) * each
    }
}
