//! What a person looks at: sheets, pages, plots, moving pictures.

pub mod animation;
pub mod page;
pub mod sheet;
pub mod text;
