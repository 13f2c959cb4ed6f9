//! See the function of this name under `src/testing/fuzz/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenscope::testing::fuzz::index_model(data));
