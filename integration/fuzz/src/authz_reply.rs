//! Any bytes as a reply of the authorization service.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callout_authz::fuzzing::reply(bytes));
