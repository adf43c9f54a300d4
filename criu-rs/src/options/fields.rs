//! The fields of an encoded message.

use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// Returns the numbers of the fields in an encoded message.
pub(super) fn field_numbers(mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Ok((number, wire)) = decode_key(&mut bytes) {
        numbers.push(number);
        let context = DecodeContext::default();
        if skip_field(wire, number, &mut bytes, context).is_err() || wire == WireType::EndGroup {
            break;
        }
    }
    numbers
}
