//! The classes that images are drawn of.

use std::str::FromStr;

use super::prior::Prior;
use crate::Error;

/// More than any network knows.
const MOST: i64 = 1_000_000;

/// Classes over which images go in turn: image i, or seed i, is of class i mod count.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassList(Vec<i64>);

impl FromStr for ClassList {
    type Err = Error;

    /// Numbers and ranges, as in `207`, `0-9` or `1,3`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut classes = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<i64>(), last.trim().parse::<i64>()) {
                (Ok(first), Ok(last)) if 0 <= first && first <= last && last < MOST => classes.extend(first..=last),
                _ => {
                    let cause = format!("`class` {text}: {part} is neither a class, as 207, nor some, as 0-9");
                    return Err(Error::request(cause));
                }
            }
        }
        Ok(Self(classes))
    }
}

impl From<Vec<i64>> for ClassList {
    fn from(classes: Vec<i64>) -> Self {
        Self(classes)
    }
}

/// The classes of a run that its network knows; none for a network without classes.
#[derive(Clone, Debug, Default)]
pub struct Classes(Option<Vec<i64>>);

impl Classes {
    /// Checks that the network, or the classifier that guides it, knows these classes.
    pub fn new(asked: Option<&ClassList>, prior: &Prior) -> Result<Self, Error> {
        let name = &prior.model.card.name;
        match (prior.classes(), asked) {
            (None, None) => Ok(Self(None)),
            (None, Some(_)) => Err(Error::request(format!("`class`: {name} knows no classes"))),
            (Some(count), None) => Err(Error::request(format!(
                "{name} makes images of {count} classes: choose with `class`, for instance `class` 0-{}",
                count - 1
            ))),
            (Some(count), Some(ClassList(classes))) => match classes.iter().find(|class| **class >= count) {
                Some(class) => {
                    Err(Error::request(format!("`class` {class}: {name} knows the classes 0 to {}", count - 1)))
                }
                None => Ok(Self(Some(classes.clone()))),
            },
        }
    }

    /// The class of image `index`.
    pub fn at(&self, index: u64) -> Option<i64> {
        self.0.as_ref().map(|classes| classes[(index % classes.len() as u64) as usize])
    }

    /// The classes of some images.
    pub fn rows(&self, indices: impl IntoIterator<Item = u64>) -> Option<Vec<i64>> {
        indices.into_iter().map(|index| self.at(index)).collect()
    }

    /// Classes for the record of a run; empty for a network without classes.
    pub fn list(&self) -> &[i64] {
        self.0.as_deref().unwrap_or_default()
    }
}
