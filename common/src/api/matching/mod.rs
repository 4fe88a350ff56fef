//! What Envoy's API means by its matchers. Pure: configured once, then data in, decision out.

mod fraction;
mod header;
mod metadata;
mod mutation_rules;
mod string;

pub use fraction::{Fraction, RuntimeFlag, RuntimeFraction};
pub use header::{HeaderFilter, HeaderMatcher};
pub use metadata::{MetadataMatcher, ValueMatcher};
pub use mutation_rules::{MutationRules, Operation, Rule};
pub use string::{StringMatcher, StringMatchers, regex};
