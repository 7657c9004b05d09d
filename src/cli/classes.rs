//! `--class`: of which classes the images are.

use anyhow::{Result, bail};
use clap::Args;

use super::guidance::Prior;

/// For networks that were told classes in training.
#[derive(Args, Debug, Default)]
pub struct ClassArgs {
    /// Classes by number, as in 207 or 0-9 or 1,3: image i (or seed i) is of the i-th, again and again
    #[arg(long, value_name = "C[,C…]", help_heading = "Classes")]
    class: Option<String>,
}

/// The classes over which images go in turn; none for a network without classes.
#[derive(Clone, Debug)]
pub struct Classes(Option<Vec<i64>>);

impl From<Option<String>> for ClassArgs {
    fn from(class: Option<String>) -> Self {
        Self { class }
    }
}

impl ClassArgs {
    /// What was asked for, if the model, or what guides it, knows these classes.
    pub fn of(&self, prior: &Prior) -> Result<Classes> {
        let name = &prior.model.card.name;
        match (prior.classes(), &self.class) {
            (None, None) => Ok(Classes(None)),
            (None, Some(_)) => bail!("--class: {name} knows no classes"),
            (Some(count), None) => {
                bail!(
                    "{name} makes images of {count} classes: choose with --class, for instance --class 0-{}",
                    count - 1
                )
            }
            (Some(count), Some(text)) => {
                let classes = parse(text)?;
                match classes.iter().find(|class| **class >= count) {
                    Some(class) => bail!("--class {class}: {name} knows the classes 0 to {}", count - 1),
                    None => Ok(Classes(Some(classes))),
                }
            }
        }
    }
}

/// More than any network knows.
const MOST: i64 = 1_000_000;

fn parse(text: &str) -> Result<Vec<i64>> {
    let mut classes = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<i64>(), last.trim().parse::<i64>()) {
            (Ok(first), Ok(last)) if 0 <= first && first <= last && last < MOST => classes.extend(first..=last),
            _ => bail!("--class {text}: {part} is neither a class, as 207, nor some, as 0-9"),
        }
    }
    Ok(classes)
}

impl Classes {
    /// The class of image `index`.
    pub fn at(&self, index: u64) -> Option<i64> {
        self.0.as_ref().map(|classes| classes[(index % classes.len() as u64) as usize])
    }

    /// The classes of some images.
    pub fn rows(&self, indices: impl IntoIterator<Item = u64>) -> Option<Vec<i64>> {
        indices.into_iter().map(|index| self.at(index)).collect()
    }

    /// For the record of a run: empty for a network without classes.
    pub fn list(&self) -> &[i64] {
        self.0.as_deref().unwrap_or_default()
    }
}
