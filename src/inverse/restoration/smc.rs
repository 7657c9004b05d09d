//! Twisted sequential Monte Carlo.

use tch::{Kind, Tensor};

use super::{Effort, InverseProblem, Method, OnState, levels, squares, value_and_grad};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        registry::entry,
        samplers::VeAncestral,
        schedule::{AnySchedule, Geometric},
        sigma::positive,
    },
};

entry! {
    name: "smc",
    what: "weighed particles; exact with many",
    source: "Wu et al. 2023",
    facts: { cost: "16 + 16", tasks: "any", spread: "posterior" },
    aliases: ["tds"],
    /// Twisted sequential Monte Carlo [Wu et al. 2023, TDS, Algorithm 1]: particles that are weighed and drawn again.
    ///
    /// Particles follow the ancestral chain of the prior, pushed by the gradient of a guess of the likelihood,
    ///
    /// ```text
    /// p̃(y | x, σ) = N(y; A D(x, σ), (η² + ‖A‖² σ² v/(v + σ²)) I)
    /// ```
    ///
    /// and weights make up for the guess. With many particles and levels this is exact, whatever the prior and the guess; it
    /// needs more of them the more informative a measurement is. One particle of the last, drawn by its weight, is the sample.
    pub struct Smc {
        /// Number of particles for each sample.
        pub particles: usize = 16 => "≥ 1",
        /// v, a variance that all pixels are taken to have.
        pub variance: f64 = 0.25 => "> 0" in "squared data units",
    }
}

/// The particles of a batch of images, `[batch · particles, channels, height, width]`, those of an image beside one another.
struct Cloud<'a> {
    problem: &'a InverseProblem<'a>,
    /// y, once for each particle.
    measurement: Tensor,
    count: i64,
    variance: f64,
}

impl Cloud<'_> {
    /// D, log p̃ `[batch · particles, 1, 1, 1]`, and ∇ log p̃.
    fn twist(&self, x: &Tensor, sigma: f64) -> (Tensor, Tensor, Tensor) {
        let InverseProblem { prior, likelihood, .. } = self.problem;
        let operator = &likelihood.operator;
        let square = sigma * sigma;
        let guess = operator.norm_squared() * square * self.variance / (self.variance + square);
        let log = |denoised: &Tensor| {
            squares(&(&self.measurement - operator.apply(denoised))) / (-2.0 * (likelihood.eta.powi(2) + guess))
        };
        let (denoised, gradient) = value_and_grad(*prior, x, sigma, log);
        (denoised.shallow_clone(), log(&denoised), gradient)
    }

    /// Noise for each particle: draws of its image, one after the other.
    fn noise(&self, x: &Tensor, step: u64) -> Tensor {
        let size = x.size();
        let one = x.narrow(0, 0, size[0] / self.count);
        let draws: Vec<Tensor> = (0..self.count).map(|i| self.problem.noise.like(&one, step, i as u64 + 1)).collect();
        Tensor::stack(&draws, 1).reshape(size.as_slice())
    }

    /// Numbers of the particles of each image, drawn again by their weights with one random number [Kitagawa 1996].
    fn again(&self, weights: &Tensor, step: u64) -> Tensor {
        let batch = weights.size()[0];
        let options = (weights.kind(), weights.device());
        let uniform = self.problem.noise.like(&Tensor::zeros([batch, 1], options), step, 0).special_ndtr();
        let places = (Tensor::arange(self.count, options) + uniform) / self.count as f64;
        let total = weights.cumsum(1, None::<Kind>);
        places.contiguous().searchsorted(&total, false, false, "left", None::<&Tensor>).clamp_max(self.count - 1)
    }

    /// The particles of these numbers, `[batch, particles]`.
    fn pick(&self, x: &Tensor, numbers: &Tensor) -> Tensor {
        let first = Tensor::arange(numbers.size()[0], (Kind::Int64, x.device())) * self.count;
        x.index_select(0, &(numbers + first.unsqueeze(1)).flatten(0, -1))
    }
}

impl Method for Smc {
    fn plan(&self) -> Option<Plan> {
        let schedule = AnySchedule::Geometric(Geometric { max: Some(10.0), min: Some(0.03) });
        Some(Plan { schedule, steps: 100, sampler: AnySampler::VeAncestral(VeAncestral::default()) })
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        if self.particles == 0 {
            return Err(Error::parameter("particles", "at least 1", 0));
        }
        positive("variance", self.variance).map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        let evaluations = levels(plan) * self.particles;
        Effort { evaluations, gradients: evaluations }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let (batch, count) = (x.size()[0], self.particles as i64);
        let measurement = &problem.likelihood.measurement;
        let whole = [&[batch], &measurement.size()[1..]].concat();
        let measurement = measurement.expand(whole.as_slice(), false).repeat_interleave_self_int(count, 0, None);
        let cloud = Cloud { problem, measurement, count, variance: self.variance };
        let first = problem.plan.sigmas.max();
        let centre = &x - problem.noise.like(&x, 0, 0) * first;
        let mut x = centre.repeat_interleave_self_int(count, 0, None);
        x = &x + cloud.noise(&x, 0) * first;
        let mut sigma = first;
        let (mut denoised, mut log, mut gradient) = cloud.twist(&x, sigma);
        let mut weights = log.view([batch, count]);
        for (k, next) in problem.plan.sigmas.iter().skip(1).enumerate() {
            let step = k as u64 + 1;
            let chances = weights.softmax(1, None::<Kind>);
            let few = chances.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).reciprocal();
            let poor = few.lt(0.5 * count as f64);
            let stay = Tensor::arange(count, (Kind::Int64, x.device())).unsqueeze(0);
            let numbers = cloud.again(&chances, step).where_self(&poor, &stay);
            weights = weights.masked_fill(&poor, 0.0);
            [x, denoised, log, gradient] = [&x, &denoised, &log, &gradient].map(|tensor| cloud.pick(tensor, &numbers));
            let share = (next / sigma).powi(2);
            let spread = next * (1.0 - share).sqrt();
            let (push, noise) = (gradient * (sigma * sigma - next * next), cloud.noise(&x, step));
            x = denoised * (1.0 - share) + x * share + &push + &noise * spread;
            // log p(x′ | x) − log q(x′ | x), where q has been pushed.
            let made_up = (squares(&push) / (2.0 * spread * spread))
                + (push * noise).flatten(1, -1).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).view_as(&log)
                    / spread;
            let before = log;
            (denoised, log, gradient) = cloud.twist(&x, next);
            // `weights` is no view of `log` any more: it has just been filled.
            weights += (&log - before - made_up).view([batch, count]);
            sigma = next;
            // One particle of each image stands for all of them, so that a change of it is not taken up.
            seen(&mut cloud.pick(&x, &stay.narrow(1, 0, 1).expand([batch, 1], false)).narrow(0, 0, batch))?;
        }
        let chosen = cloud.again(&weights.softmax(1, None::<Kind>), problem.plan.sigmas.iter().len() as u64 + 1);
        // Systematic draws are in order: one of them is taken at random.
        let place = problem.noise.like(&Tensor::zeros([batch, 1], (x.kind(), x.device())), u64::MAX, 0).special_ndtr();
        let place = (place * count as f64).to_kind(Kind::Int64).clamp(0, count - 1);
        Ok(cloud.pick(&denoised, &chosen.gather(1, &place, false)))
    }
}
