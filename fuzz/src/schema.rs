//! Numbers of the messages on which two decoders are compared.

use criu_images::schema::Message;

/// Finds the number of a message by its name.
pub fn place(name: &str) -> Option<u16> {
    u16::try_from(NAMES.iter().position(|known| *known == name)?).ok()
}

/// Finds the description of a message by its number. Each number leads to a message.
pub fn schema(place: u16) -> Option<&'static Message> {
    Message::by_name(NAMES[usize::from(place) % NAMES.len()])
}

macro_rules! names {
    ($($name:literal $type:ident $module:ident $theirs:ident;)*) => {
        const NAMES: &[&str] = &[$($name),*];
    };
}
criu_fuzz_second::messages!(names);
