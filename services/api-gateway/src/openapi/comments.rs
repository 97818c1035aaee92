//! The contracts' comments, as descriptions.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;

/// Comments by file and place in it.
#[derive(Debug)]
pub struct Comments {
    leading: HashMap<(String, Vec<i32>), String>,
}

impl Comments {
    /// All comments of `pool`.
    pub fn of(pool: &DescriptorPool) -> Self {
        let mut leading = HashMap::new();
        for file in pool.files() {
            let Some(info) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in &info.location {
                if let Some(text) = &location.leading_comments {
                    leading.insert((file.name().to_owned(), location.path.clone()), text.clone());
                }
            }
        }
        Self { leading }
    }

    /// The comment at a place, as flowing text. Its example calls, which are indented, are left out.
    pub fn prose(&self, file: &str, path: &[i32]) -> String {
        let Some(text) = self.leading.get(&(file.to_owned(), path.to_vec())) else { return String::new() };
        let lines = text.lines().filter(|line| !line.starts_with("   ")).map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }
}
