//! The `WHERE` of a list, made from the filters that a caller gave.

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::QueryAs};

/// A value of a filter.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(i64),
}

/// Conditions that must all hold. Words of callers are bound, never written into the SQL.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Filter {
    /// Adds `condition`, where `{}` stands for the value, unless the value is empty.
    pub fn text(&mut self, condition: &'static str, value: &str) {
        if !value.is_empty() {
            self.add(condition, Value::Text(value.to_owned()));
        }
    }

    /// Adds `condition`, where `{}` stands for the value, unless there is none.
    pub fn number(&mut self, condition: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(condition, Value::Number(value));
        }
    }

    /// Only rows before this one, when the newest come first.
    pub fn before(&mut self, time_ms: i64, line_id: &str) {
        self.number("time_ms <= {}", Some(time_ms));
        let at = self.values.len();
        self.values.push(Value::Text(line_id.to_owned()));
        self.conditions.push(format!("(time_ms < ${at} OR line_id < ${})", at + 1));
    }

    fn add(&mut self, condition: &'static str, value: Value) {
        self.values.push(value);
        self.conditions.push(condition.replace("{}", &format!("${}", self.values.len())));
    }

    /// What tells lists with these filters from others, for their page tokens.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{:?}", (&self.conditions, &self.values))
    }

    /// The query `select … WHERE … tail`, with its values bound.
    pub fn query<'q, R>(&self, select: &'static str, tail: &str) -> QueryAs<'q, Any, R, AnyArguments>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>,
    {
        let condition = if self.conditions.is_empty() { "1 = 1".to_owned() } else { self.conditions.join(" AND ") };
        let query = sqlx::query_as(AssertSqlSafe(format!("{select} WHERE {condition} {tail}")));
        self.values.iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Number(number) => query.bind(*number),
        })
    }
}

/// A pattern that finds `text` anywhere with `LIKE … ESCAPE '\'`; what is special in it is not.
#[must_use]
pub fn anywhere(text: &str) -> String {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_that_were_given_become_conditions() {
        let mut filter = Filter::default();
        filter.text("service = {}", "");
        filter.text("actor = {}", "a' OR 1=1");
        filter.number("time_ms >= {}", None);
        filter.number("time_ms < {}", Some(7));
        assert_eq!(filter.conditions, ["actor = $1", "time_ms < $2"]);
    }

    #[test]
    fn what_is_special_in_a_pattern_is_taken_as_it_is() {
        assert_eq!(anywhere("50%_\\X"), "%50\\%\\_\\\\x%");
    }
}
