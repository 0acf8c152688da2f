//! All results in a folder: the rounds of a comparison or a sweep.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::LoadError;
use super::result::RunResult;

/// A result with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The folder of the file, from where the search began: rounds that belong together have the
    /// same one. Empty for a file that was named itself.
    pub place: String,
    /// What is in it.
    pub result: RunResult,
}

/// The result at `path`, or each `result.json` in and below a folder, in the order in which they
/// were measured. What is below a folder with a result are the parts that it was merged from.
/// Symbolic links to folders are not followed.
///
/// # Errors
/// [`LoadError`] if there is none, or if one of them is no result.
pub fn load_all(path: &Path) -> Result<Vec<Found>, LoadError> {
    if !path.is_dir() {
        return Ok(vec![Found { place: String::new(), result: RunResult::load(path)? }]);
    }
    let mut files = Vec::new();
    collect(path, &mut files)
        .map_err(|cause| LoadError::Unreadable { path: path.into(), cause })?;
    if files.is_empty() {
        return Err(LoadError::NoResultInside { path: path.into() });
    }
    let load = |file: PathBuf| {
        let folder = file.parent().and_then(|folder| folder.strip_prefix(path).ok());
        let place = folder.map_or_else(String::new, |folder| folder.display().to_string());
        Ok(Found { place, result: RunResult::load(&file)? })
    };
    let mut found = files.into_iter().map(load).collect::<Result<Vec<_>, LoadError>>()?;
    found.sort_by_cached_key(|found| (found.result.started_at.clone(), found.place.clone()));
    Ok(found)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let result = folder.join("result.json");
    if result.try_exists()? {
        files.push(result);
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, place: &str, started_at: &str) {
        let result = RunResult { started_at: started_at.into(), ..RunResult::default() };
        fs::create_dir_all(folder.join(place)).unwrap();
        fs::write(folder.join(place).join("result.json"), result.to_json()).unwrap();
    }

    #[test]
    fn results_below_a_folder_come_in_the_order_of_measurement() {
        let folder = tempfile::tempdir().unwrap();
        for (place, second) in [("1", "03"), ("10", "02"), ("a/2", "01")] {
            put(folder.path(), place, &format!("2026-01-01T00:00:{second}Z"));
        }
        let places = |path: &Path| -> Vec<String> {
            load_all(path).unwrap().into_iter().map(|found| found.place).collect()
        };
        assert_eq!(places(folder.path()), ["a/2", "10", "1"]);
        assert_eq!(places(&folder.path().join("1")), [""]);
        assert_eq!(places(&folder.path().join("1/result.json")), [""]);
    }

    #[test]
    fn a_sum_stands_for_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["1", "1/shard-0", "1/shard-1", "2/shard-0"] {
            put(folder.path(), place, place);
        }
        let found = load_all(folder.path()).unwrap();
        let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["1", "2/shard-0"]);
    }

    #[test]
    fn no_result_and_half_a_result_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load_all(folder.path()), Err(LoadError::NoResultInside { .. })));
        put(folder.path(), "1", "");
        fs::create_dir(folder.path().join("2")).unwrap();
        fs::write(folder.path().join("2/result.json"), "{\"schema_version\": 2").unwrap();
        let error = load_all(folder.path()).unwrap_err().to_string();
        assert!(error.contains("2/result.json") && error.contains("cut off"), "{error}");
        assert!(load_all(Path::new("/nowhere")).is_err());
    }
}
