//! Image size and σ range of a model that a dry run does not open: from the experiment's file, or from the card.

use crate::{Error, models::card};

/// Returns the shape of the network's images, `[channels, height, width]`.
pub(crate) fn image(model: &str, stated: Option<[i64; 3]>) -> Result<[i64; 3], Error> {
    if let Some(image) = stated {
        return Ok(image);
    }
    let card = card::card(model)?;
    card.map(|card| card.image)
        .ok_or_else(|| lacks(model, "image: [channels, height, width], the size of the network's images"))
}

/// Returns the smallest and the largest σ of the network's training, in data units.
pub(crate) fn range(model: &str, stated: Option<(f64, f64)>) -> Result<(f64, f64), Error> {
    if let Some(range) = stated {
        return Ok(range);
    }
    let card = card::card(model)?;
    card.ok_or_else(|| lacks(model, "range: [smallest, largest] σ of the network's training"))?.range()
}

fn lacks(model: &str, field: &str) -> Error {
    Error::request(format!("a dry run does not open {model}: add {field}"))
}
