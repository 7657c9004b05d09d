//! Classes of the images of a run.

use std::str::FromStr;

use super::prior::Prior;
use crate::Error;

/// Upper bound of class numbers; no network has as many classes.
const MOST: i64 = 1_000_000;

/// Word for the null class.
const NONE: &str = "none";

/// Classes that images take in turn: image i, or seed i, has the entry i mod count. `None` is the null class, with
/// which a network that was trained with one draws images of no class in particular.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassList(Vec<Option<i64>>);

impl FromStr for ClassList {
    type Err = Error;

    /// Parses numbers and ranges, as in `207`, `0-9` or `1,3`; `none` is the null class.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut classes = Vec::new();
        for part in text.split(',') {
            if part.trim() == NONE {
                classes.push(None);
                continue;
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<i64>(), last.trim().parse::<i64>()) {
                (Ok(first), Ok(last)) if 0 <= first && first <= last && last < MOST => {
                    classes.extend((first..=last).map(Some));
                }
                _ => {
                    let cause =
                        format!("`class` {text}: {part} is neither a class, as 207, nor some, as 0-9, nor none");
                    return Err(Error::request(cause));
                }
            }
        }
        Ok(Self(classes))
    }
}

impl From<Vec<i64>> for ClassList {
    fn from(classes: Vec<i64>) -> Self {
        Self(classes.into_iter().map(Some).collect())
    }
}

/// Classes of a run, checked against its network; `None` for a network without classes.
#[derive(Clone, Debug, Default)]
pub struct Classes(Option<Vec<i64>>);

impl Classes {
    /// Checks that the network, or the classifier that guides it, knows these classes.
    pub fn new(asked: Option<&ClassList>, prior: &Prior) -> Result<Self, Error> {
        let name = &prior.model.card.name;
        match (prior.classes(), asked) {
            (None, None) => Ok(Self(None)),
            (None, Some(_)) => Err(Error::request(format!("`class`: {name} knows no classes"))),
            (Some(count), None) => {
                let none = prior.null_class().map_or("", |_| ", or `class` none");
                let cause = format!(
                    "{name} makes images of {count} classes: choose with `class`, for instance `class` 0-{}{none}",
                    count - 1
                );
                Err(Error::request(cause))
            }
            (Some(count), Some(ClassList(classes))) => {
                let known = |class: &Option<i64>| match class {
                    Some(class) if *class >= count => {
                        Err(Error::request(format!("`class` {class}: {name} knows the classes 0 to {}", count - 1)))
                    }
                    Some(class) => Ok(*class),
                    None => prior.null_class().ok_or_else(|| no_null_class(prior)),
                };
                Ok(Self(Some(classes.iter().map(known).collect::<Result<_, _>>()?)))
            }
        }
    }

    /// Returns the class of image `index`.
    pub fn at(&self, index: u64) -> Option<i64> {
        self.0.as_ref().map(|classes| classes[(index % classes.len() as u64) as usize])
    }

    /// Returns the classes of the images `indices`.
    pub fn rows(&self, indices: impl IntoIterator<Item = u64>) -> Option<Vec<i64>> {
        indices.into_iter().map(|index| self.at(index)).collect()
    }

    /// Returns the classes for the record of a run; empty for a network without classes.
    pub fn list(&self) -> &[i64] {
        self.0.as_deref().unwrap_or_default()
    }
}

fn no_null_class(prior: &Prior) -> Error {
    let name = &prior.model.card.name;
    Error::request(if prior.is_guided_by_classifier() {
        format!("`class` {NONE}: the classifier guides {name} towards a class: give its number")
    } else {
        format!(
            "`class` {NONE}: {name} has no null class, so far as its file tells (`set` null_class=N says its number)"
        )
    })
}
