//! Any bytes as a configuration of extproc, of the filter and of a route.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callout_extproc::fuzzing::config(bytes));
