//! Result files: reads every version and writes the newest.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use super::migrate;
use super::result::{RunResult, SCHEMA_VERSION};

/// Why a result cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The error of the system call.
        cause: io::Error,
    },
    /// A folder without a result.
    #[error("{path} is a folder without a result.json: name a result file, or the folder that \
             `loadgen run --out` wrote", path = path.display())]
    NoResultInside {
        /// Which folder.
        path: PathBuf,
    },
    /// The content is not a result.
    #[error("{path}: {cause}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the content.
        cause: ContentError,
    },
}

/// What is wrong with the text of a result.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The JSON text is incomplete.
    #[error("it ends in the middle (line {line}): it was cut off, or is still being written")]
    Truncated {
        /// The line at which it ends.
        line: usize,
    },
    /// The text is not JSON.
    #[error("it is no JSON, and so no result of loadgen: {0}")]
    NotJson(serde_json::Error),
    /// JSON, but not a result.
    #[error("it is JSON, but no result of loadgen: {0}")]
    Foreign(&'static str),
    /// The schema version is newer than [`SCHEMA_VERSION`].
    #[error(
        "it has schema version {found}, and this program knows versions up to {SCHEMA_VERSION}: \
         use the loadgen that wrote it{}, or a newer one",
        .tool.as_ref().map_or_else(String::new, |version| format!(" ({version})"))
    )]
    Newer {
        /// The file's version.
        found: u64,
        /// Version of the program that wrote it, if the file has it.
        tool: Option<String>,
    },
    /// A field is missing or has the wrong type.
    #[error("it is damaged: {0}")]
    Damaged(serde_json::Error),
}

/// The result file at `path`: the file itself, or `result.json` in the folder.
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
        let mut result = Self::deserialize(&value).map_err(ContentError::Damaged)?;
        result.original = Some(value);
        Ok(result)
    }

    /// The text of the result file. Unknown fields of the file from which it was read are kept.
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

/// Adds the fields of `original` that `value` lacks, at every depth. Lists of equal length are
/// treated element by element.
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

    fn parse_error(text: &str) -> String {
        RunResult::parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn each_kind_of_content_that_is_no_result_has_its_own_error() {
        let whole = RunResult::default().to_json();
        let half = &whole[..whole.len() / 2];
        assert!(parse_error(half).contains("cut off"), "{}", parse_error(half));
        assert!(parse_error("").contains("cut off"));
        assert!(parse_error("plain text").contains("no JSON"));
        assert!(parse_error("[1]").contains("no object"));
        assert!(parse_error(r#"{"addr": "127.0.0.1:7"}"#).contains("no schema_version"));
        assert!(parse_error(r#"{"schema_version": 2}"#).contains("no outcomes"));
        assert!(parse_error(r#"{"schema_version": "x"}"#).contains("no version"));
        let newer = r#"{"schema_version": 3, "tool": {"version": "9.9"}}"#;
        let error = parse_error(newer);
        assert!(error.contains("version 3") && error.contains("(9.9)"), "{error}");
    }

    #[test]
    fn the_value_of_a_field_of_the_wrong_type_is_named() {
        let mut value = serde_json::to_value(RunResult::default()).unwrap();
        value["censored"] = json!("many");
        let error = parse_error(&value.to_string());
        assert!(error.contains("damaged") && error.contains("many"), "{error}");
    }

    #[test]
    fn unknown_fields_and_outcomes_are_kept() {
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
    fn a_result_is_loaded_from_a_file_or_a_folder() {
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
