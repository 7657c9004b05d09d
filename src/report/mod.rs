//! Sheets, pages, plots and animations for people to look at.

pub mod animation;
pub mod columns;
pub mod listing;
pub mod page;
pub mod sheet;
pub mod text;
