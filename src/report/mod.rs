//! What a person looks at: sheets, pages, plots, moving pictures.

pub mod animation;
pub mod columns;
pub mod listing;
pub mod page;
pub mod sheet;
pub mod text;
