//! Result files: every version is read, the newest is written.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::error::Category;

use super::migrate;
use super::result::{RunResult, SCHEMA_VERSION};

/// Why a file is not a result that can be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read at all.
    #[error("{path}: {cause}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A folder without a result.
    #[error("{path} is a folder without a result.json: name a result file, or the folder that \
             `loadgen run --out` wrote", path = path.display())]
    NoResultInside {
        /// Which folder.
        path: PathBuf,
    },
    /// It is what it claims to be, or not.
    #[error("{path}: {cause}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: ContentError,
    },
}

/// What is wrong with the text of a result.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It ends in the middle.
    #[error("it ends in the middle (line {line}): it was cut off, or is still being written")]
    Truncated {
        /// Where it ends.
        line: usize,
    },
    /// No JSON.
    #[error("it is no JSON, and so no result of loadgen: {0}")]
    NotJson(serde_json::Error),
    /// JSON of something else.
    #[error("it is JSON, but no result of loadgen: {0}")]
    Foreign(&'static str),
    /// A later version of this program wrote it.
    #[error(
        "it has schema version {found}, and this program knows versions up to {SCHEMA_VERSION}: \
         use the loadgen that wrote it{}, or a newer one",
        .tool.as_ref().map_or_else(String::new, |version| format!(" ({version})"))
    )]
    Newer {
        /// The file's version.
        found: u64,
        /// Version of the program that wrote it, where it says so.
        tool: Option<String>,
    },
    /// A field is missing or of the wrong kind.
    #[error("it is damaged: {0}")]
    Damaged(serde_json::Error),
}

/// The file that `path` stands for: itself, or the result in that folder.
///
/// # Errors
/// [`LoadError::NoResultInside`].
pub fn locate(path: &Path) -> Result<PathBuf, LoadError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let inside = path.join("result.json");
    if inside.is_file() { Ok(inside) } else { Err(LoadError::NoResultInside { path: path.into() }) }
}

impl RunResult {
    /// Reads a result file of any version, or the one in a folder.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let path = locate(path)?;
        match std::fs::read(&path) {
            Ok(text) => Self::parse(&text).map_err(|cause| LoadError::Content { path, cause }),
            Err(cause) => Err(LoadError::Unreadable { path, cause }),
        }
    }

    /// Reads the text of a result of any version.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn parse(text: &[u8]) -> Result<Self, ContentError> {
        let value: Value =
            serde_json::from_slice(text).map_err(|error| match error.classify() {
                Category::Eof => ContentError::Truncated { line: error.line() },
                _ => ContentError::NotJson(error),
            })?;
        let found = version(&value)?;
        if found > u64::from(SCHEMA_VERSION) {
            let tool = value["tool"]["version"].as_str().map(str::to_owned);
            return Err(ContentError::Newer { found, tool });
        }
        let value = migrate::to_newest(value, found);
        let mut result: Self =
            serde_json::from_value(value.clone()).map_err(ContentError::Damaged)?;
        result.original = Some(value);
        Ok(result)
    }

    /// The text of the result file, with the fields of the file it was read from that this version
    /// does not know.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).expect("plain data");
        if let Some(original) = &self.original {
            keep_unknown(&mut value, original);
        }
        format!("{value:#}\n")
    }
}

fn version(value: &Value) -> Result<u64, ContentError> {
    if !value.is_object() {
        return Err(ContentError::Foreign("it is no object"));
    }
    let version = value.get("schema_version").ok_or(ContentError::Foreign(
        "it has no schema_version (hold and torture had none before version 2)",
    ))?;
    let version = version.as_u64().filter(|&version| version > 0);
    let version = version.ok_or(ContentError::Foreign("its schema_version is no version"))?;
    if value.get("outcomes").is_none() || value.get("histograms").is_none() {
        let newer = version > u64::from(SCHEMA_VERSION);
        if !newer {
            return Err(ContentError::Foreign("it has no outcomes and histograms"));
        }
    }
    Ok(version)
}

/// Adds what `original` has and `value` has not, at every depth. Lists are taken element by element
/// while they are equally long.
fn keep_unknown(value: &mut Value, original: &Value) {
    match (value, original) {
        (Value::Object(value), Value::Object(original)) => {
            for (name, old) in original {
                match value.get_mut(name) {
                    Some(new) => keep_unknown(new, old),
                    None => drop(value.insert(name.clone(), old.clone())),
                }
            }
        }
        (Value::Array(value), Value::Array(original)) if value.len() == original.len() => {
            value.iter_mut().zip(original).for_each(|(new, old)| keep_unknown(new, old));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> String {
        RunResult::parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn what_is_no_result_is_told_apart() {
        let whole = RunResult::default().to_json();
        let half = &whole[..whole.len() / 2];
        assert!(refused(half).contains("cut off"), "{}", refused(half));
        assert!(refused("").contains("cut off"));
        assert!(refused("plain text").contains("no JSON"));
        assert!(refused("[1]").contains("no object"));
        assert!(refused(r#"{"addr": "127.0.0.1:7"}"#).contains("no schema_version"));
        assert!(refused(r#"{"schema_version": 2}"#).contains("no outcomes"));
        assert!(refused(r#"{"schema_version": "x"}"#).contains("no version"));
        let newer = r#"{"schema_version": 3, "tool": {"version": "9.9"}}"#;
        let said = refused(newer);
        assert!(said.contains("version 3") && said.contains("(9.9)"), "{said}");
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named() {
        let mut value = serde_json::to_value(RunResult::default()).unwrap();
        value["censored"] = json!("many");
        let said = refused(&value.to_string());
        assert!(said.contains("damaged") && said.contains("many"), "{said}");
    }

    #[test]
    fn unknown_fields_and_outcomes_survive() {
        let mut value = serde_json::to_value(RunResult::default()).unwrap();
        value["histograms"]["someday"] = serde_json::to_value(
            crate::model::histogram::Summary::of(&crate::model::histogram::new_histogram()),
        )
        .unwrap();
        value["outcomes"]["redirected"] = json!(3);
        value["outcomes"]["attempted"] = json!(3);
        value["new"] = json!({"a": [1.5, null]});
        value["server"]["colour"] = json!("blue");
        let result = RunResult::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(result.outcomes.finished(), 3);
        let again: Value = serde_json::from_str(&result.to_json()).unwrap();
        assert_eq!(again, value);
    }

    #[test]
    fn files_and_folders_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let missing = RunResult::load(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("without a result.json"), "{missing}");
        let file = folder.path().join("result.json");
        std::fs::write(&file, RunResult::default().to_json()).unwrap();
        assert_eq!(RunResult::load(folder.path()).unwrap().schema_version, SCHEMA_VERSION);
        let nowhere = RunResult::load(&folder.path().join("x")).unwrap_err().to_string();
        assert!(nowhere.contains("x: No such file"), "{nowhere}");
    }
}
