//! Hooks, answers and deadlines in any order, for the machine of extproc.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callout_extproc::fuzzing::machine(bytes));
