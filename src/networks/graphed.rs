//! Evaluations that are recorded once and replayed: on a GPU, some hundred launches become one.

use std::cell::RefCell;

use tch::Tensor;

use super::{Network, layers};
use crate::{
    Error,
    backend::recorder::{Form, Inputs, Recorder, Recording},
};

/// State of a form of inputs.
#[derive(Debug)]
enum FormState {
    /// It was seen so often.
    Seen(usize),
    Recorded(RecordedEvaluation),
    /// Why it is not recorded.
    Refused(String),
}

#[derive(Debug)]
struct RecordedEvaluation {
    inputs: Inputs,
    recording: Recording,
    /// The FLOPs of an evaluation, as [`layers::flops`] counts them.
    flops: f64,
}

impl RecordedEvaluation {
    fn replay(&mut self, given: &Inputs) -> Result<Tensor, String> {
        self.inputs.set(given);
        self.recording.replay.replay()?;
        layers::add_flops(self.flops);
        let mut answer = self.recording.output.empty_like();
        // The next replay overwrites what is copied here.
        answer.copy_(&self.recording.output);
        Ok(answer)
    }
}

/// A network whose evaluations are replayed, as soon as inputs of the same form come again and again.
///
/// A recording is used only if its first answer is the network's own; wherever that is not so, or nothing can be recorded, the
/// network computes as ever. Where gradients are asked for, it does so too. After the first refusal nothing else is recorded:
/// what cannot be recorded may keep the memory that it was given for it.
#[derive(Debug)]
pub struct Graphed {
    network: Box<dyn Network>,
    recorder: Box<dyn Recorder>,
    /// The recordings by form; the one used last comes last.
    known: RefCell<Vec<(Form, FormState)>>,
}

impl Graphed {
    /// Evaluations of a form before it is recorded; recording costs about as much as five of them.
    pub const PATIENCE: usize = 2;
    /// Most recordings that are kept: each holds the memory of an evaluation. The one that was idle longest makes room.
    pub const KEPT: usize = 4;
    /// Most forms that are remembered.
    pub const REMEMBERED: usize = 64;
    /// Largest difference, of the largest value, that is taken for rounding: the device may add in another order.
    pub const ROUNDING: f64 = 1.0 / 64.0;

    /// `network`, which computes on the device of `recorder`.
    pub fn new(network: Box<dyn Network>, recorder: Box<dyn Recorder>) -> Self {
        Self { network, recorder, known: RefCell::default() }
    }

    /// Number of recordings kept at present.
    pub fn recordings(&self) -> usize {
        self.known.borrow().iter().filter(|(_, state)| matches!(state, FormState::Recorded(_))).count()
    }

    fn evaluate(&self, given: &Inputs) -> Tensor {
        self.network.forward(&given.x, &given.label, given.class.as_ref())
    }

    fn next(&self, state: FormState, given: &Inputs) -> (Tensor, FormState) {
        match state {
            FormState::Seen(times) if times < Self::PATIENCE || !self.refusals().is_empty() => {
                (self.evaluate(given), FormState::Seen(times + 1))
            }
            FormState::Seen(_) => {
                self.make_room();
                let answer = self.evaluate(given);
                let state = self.record(given, &answer).map_or_else(FormState::Refused, FormState::Recorded);
                (answer, state)
            }
            FormState::Recorded(mut evaluation) => match evaluation.replay(given) {
                Ok(answer) => (answer, FormState::Recorded(evaluation)),
                Err(why) => (self.evaluate(given), FormState::Refused(why)),
            },
            FormState::Refused(why) => (self.evaluate(given), FormState::Refused(why)),
        }
    }

    /// The evaluation of inputs of this form, if it answers `answer` to `given`.
    fn record(&self, given: &Inputs, answer: &Tensor) -> Result<RecordedEvaluation, String> {
        if answer.requires_grad() {
            return Err("it records gradients".to_owned());
        }
        // The recording is made of blanks: one that does not read its inputs then cannot answer rightly.
        let inputs = given.blank();
        let (mut before, mut after) = (0.0, 0.0);
        let recording = self.recorder.record(&inputs, &mut |inputs| {
            before = layers::flops();
            let answer = self.evaluate(inputs);
            after = layers::flops();
            answer
        })?;
        let mut evaluation = RecordedEvaluation { inputs, recording, flops: after - before };
        let replayed = evaluation.replay(given)?;
        let largest = |x: &Tensor| x.abs().max().double_value(&[]);
        let (difference, scale) = (largest(&(&replayed - answer)), largest(answer));
        if difference <= Self::ROUNDING * scale {
            return Ok(evaluation);
        }
        Err(format!("the replayed answer differs by {difference:.1e} from the network's, which is of size {scale:.1e}"))
    }

    /// Forgets the recording that was idle longest, if there are as many as there may be.
    fn make_room(&self) {
        let mut known = self.known.borrow_mut();
        let recorded = |(_, state): &(Form, FormState)| matches!(state, FormState::Recorded(_));
        if known.iter().filter(|entry| recorded(entry)).count() >= Self::KEPT
            && let Some(oldest) = known.iter().position(recorded)
        {
            known.remove(oldest);
        }
    }
}

impl Network for Graphed {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        if x.requires_grad() {
            return self.network.forward(x, label, class);
        }
        let given =
            Inputs { x: x.shallow_clone(), label: label.shallow_clone(), class: class.map(Tensor::shallow_clone) };
        let form = given.form();
        let known = self.known.borrow().iter().position(|(known, _)| *known == form);
        let state = known.map_or(FormState::Seen(0), |at| self.known.borrow_mut().remove(at).1);
        let (answer, state) = self.next(state, &given);
        let mut known = self.known.borrow_mut();
        known.push((form, state));
        if known.len() > Self::REMEMBERED {
            known.remove(0);
        }
        answer
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        self.network.check(shape)
    }

    fn classes(&self) -> Option<i64> {
        self.network.classes()
    }

    fn null_class(&self) -> Option<i64> {
        self.network.null_class()
    }

    fn spreads(&self) -> bool {
        self.network.spreads()
    }

    fn refusals(&self) -> Vec<String> {
        let known = self.known.borrow();
        let refused = known.iter().filter_map(|(form, state)| match state {
            FormState::Refused(why) => Some(format!("{:?}: {why}", form[0].0)),
            _ => None,
        });
        refused.collect()
    }
}
