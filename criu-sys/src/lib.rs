#![doc = include_str!("../README.md")]
#![no_std]
#![allow(unsafe_code)]
#![allow(non_camel_case_types)]

mod bindings;

pub use bindings::*;
