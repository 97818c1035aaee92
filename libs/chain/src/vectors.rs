//! Public test vectors. They are read where they lie beside the project, and are not part of it.

use std::{fs, path::Path};

/// The text of a file of vectors; absent, with a notice, where the vectors are not at hand.
pub(crate) fn read(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(name);
    let text = fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("skipped: the public vectors {name} are not at hand");
    }
    text
}
