//! What two descriptions have in common.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The fields in which both agree; lists are united. The paths of the others are added to
/// `differing`. All fields of `T` that are not lists have to be optional.
pub(super) fn common<T>(name: &str, one: &T, other: &T, differing: &mut Vec<String>) -> T
where
    T: Serialize + DeserializeOwned + Default,
{
    let value = |it: &T| serde_json::to_value(it).expect("plain data");
    let both = both(name, value(one), &value(other), differing);
    both.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

fn both(path: &str, one: Value, other: &Value, differing: &mut Vec<String>) -> Option<Value> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let inner = one.into_iter().filter_map(|(name, value)| {
                let other = other.get(&name).unwrap_or(&Value::Null);
                let both = both(&format!("{path}.{name}"), value, other, differing)?;
                Some((name, both))
            });
            Some(Value::Object(inner.collect::<Map<_, _>>()))
        }
        (Value::Array(mut one), Value::Array(other)) => {
            for item in other {
                if !one.contains(item) {
                    one.push(item.clone());
                }
            }
            Some(Value::Array(one))
        }
        (one, other) if one == *other => Some(one),
        _ => {
            differing.push(path.to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::server::Server;

    #[test]
    fn what_differs_is_absent_and_named() {
        let server = |engine: &str, degraded: &str| Server {
            engine: Some(engine.into()),
            workers: Some(2),
            degraded: vec![degraded.into()],
            ..Server::default()
        };
        let mut differing = Vec::new();
        let both = common("server", &server("uring", "a"), &server("epoll", "b"), &mut differing);
        assert_eq!((both.engine, both.workers), (None, Some(2)));
        assert_eq!(both.degraded, ["a", "b"]);
        assert_eq!(differing, ["server.engine"]);
    }
}
