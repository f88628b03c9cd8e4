#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::callback_url::check(data));
