#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| criu_fuzz::record::run(data));
