//! The bootstrap of the running Envoy, which the module interface does not tell: read, while a
//! configuration is made, from where Envoy has it (its command line and its file).

use std::path::Path;

use serde_json::Value;

/// The command line, and the documents that it names.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    arguments: Vec<String>,
    documents: Vec<Value>,
}

impl Bootstrap {
    /// That of this process.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub(crate) fn of_this_process() -> Result<Self, String> {
        let line = std::fs::read("/proc/self/cmdline")
            .map_err(|error| format!("its command line can't be read: {error}"))?;
        let arguments = line
            .split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        Self::of(arguments, |path| std::fs::read_to_string(path).map_err(|error| error.to_string()))
    }

    /// That of an Envoy with these arguments, whose files `read` reads.
    pub(crate) fn of(
        arguments: Vec<String>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let parsed = |text: &str, name: &str| {
            serde_norway::from_str::<Value>(text)
                .map_err(|error| format!("{name}: is not valid YAML: {error}"))
        };
        let mut documents = Vec::new();
        if let Some(path) = option(&arguments, &["-c", "--config-path"]) {
            let suffix = Path::new(path).extension();
            if suffix.is_some_and(|suffix| suffix == "pb" || suffix == "pb_text") {
                return Err(format!("{path} is neither YAML nor JSON"));
            }
            let text = read(path).map_err(|error| format!("{path} can't be read: {error}"))?;
            documents.push(parsed(&text, path)?);
        }
        if let Some(text) = option(&arguments, &["--config-yaml"]) {
            documents.push(parsed(text, "--config-yaml")?);
        }
        Ok(Self { arguments, documents })
    }

    /// The value of an option: `--name value`, `--name=value`, `-n value`.
    pub(crate) fn option(&self, names: &[&str]) -> Option<&str> {
        option(&self.arguments, names)
    }

    /// The file, and what is given on the command line, which Envoy merges over it.
    pub(crate) fn documents(&self) -> &[Value] {
        &self.documents
    }
}

fn option<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(index, argument)| {
        names.iter().find_map(|name| match argument.strip_prefix(name)? {
            "" => arguments.get(index + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        })
    })
}
