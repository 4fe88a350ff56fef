//! A YAML file as Envoy reads it, with the place of every value in the text, so that the text can be
//! changed where it has to be and stays as it is elsewhere, comments and all.

mod edit;
mod emit;
mod parse;

pub(crate) use edit::Edits;
pub(crate) use emit::emit;
pub(crate) use parse::{File, Node, Shape};
