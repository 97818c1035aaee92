//! What those who watch the platform ask for: the queries of its alert rules and of its dashboards, and what it counts.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use streamgate_testkit::{engines::Prometheus, repository};

/// The span that a query of a dashboard looks back over here; Prometheus reads each second.
const RATE_INTERVAL: &str = "30s";

/// A query, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// File and panel, or the rule.
    pub from: String,
    /// In the language of Prometheus.
    pub text: String,
}

/// The file of the alert rules.
#[must_use]
pub fn rules_file() -> PathBuf {
    repository().join("config/prometheus/rules.yml")
}

/// Every query of every dashboard, its variables filled in as Grafana does it.
///
/// # Errors
/// When a dashboard is missing or is not one.
pub fn dashboard_queries() -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for name in ["overview.json", "media.json"] {
        let path = repository().join("config/grafana").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let dashboard: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        for panel in dashboard["panels"].as_array().context("a dashboard has panels")? {
            let title = panel["title"].as_str().unwrap_or_default();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().with_context(|| format!("{name}: {title} asks for something"))?;
                queries.push(Query { from: format!("{name}: {title}"), text: filled_in(text) });
            }
        }
        queries.extend(variable_queries(name, &dashboard));
    }
    Ok(queries)
}

/// The queries that fill the variables of a dashboard, as queries for the same series.
fn variable_queries(name: &str, dashboard: &Value) -> Vec<Query> {
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let asked = variables.filter_map(|variable| variable["query"].as_str());
    let series = asked.filter_map(|query| query.strip_prefix("label_values(")?.split(',').next());
    series.map(|series| Query { from: format!("{name}: variable"), text: series.to_owned() }).collect()
}

fn filled_in(text: &str) -> String {
    text.replace("$__rate_interval", RATE_INTERVAL).replace("$service", ".*")
}

/// A rule as Prometheus knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRule {
    /// Its query.
    pub query: Query,
    /// The value that it compares, without the comparison.
    pub value: Query,
    /// "ok" when it was evaluated; else what went wrong.
    pub health: String,
}

/// The rules that Prometheus evaluates.
///
/// # Errors
/// When it does not answer.
pub async fn known_rules(prometheus: &Prometheus) -> Result<Vec<KnownRule>> {
    let known = prometheus.know("rules").await?;
    let groups = known["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    Ok(rules.map(known_rule).collect())
}

fn known_rule(rule: &Value) -> KnownRule {
    let word = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
    let (from, text) = (word("name"), word("query"));
    let compared = text.rsplit_once(" > ").map_or(text.as_str(), |(value, _)| value);
    let health = if word("health") == "ok" { "ok".to_owned() } else { format!("{} {}", word("health"), word("lastError")) };
    let value = Query { from: from.clone(), text: compared.to_owned() };
    KnownRule { query: Query { from, text }, value, health }
}

/// What the service on a port has counted under a name: the sum over all labels that hold `label`.
///
/// # Errors
/// When the service does not answer, or what it says can't be read.
pub async fn counted(port: u16, name: &str, label: &str) -> Result<u64> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?.error_for_status()?;
    let page = answer.text().await?;
    let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    samples.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>().with_context(|| line.to_owned())).sum()
}

/// Health of each target by its address: "up", or why it can't be read.
///
/// # Errors
/// When Prometheus does not answer.
pub async fn targets(prometheus: &Prometheus) -> Result<BTreeMap<String, String>> {
    let known = prometheus.know("targets").await?;
    let active = known["activeTargets"].as_array().into_iter().flatten();
    Ok(active
        .map(|target| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let health = word(&target["health"]);
            let health = if health == "up" { health } else { format!("{health} {}", word(&target["lastError"])) };
            (word(&target["labels"]["instance"]), health)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn no_variable_is_left_in_a_query_of_a_dashboard() {
        let queries = dashboard_queries().unwrap();
        assert!(queries.len() > 30, "{}", queries.len());
        let left: Vec<&Query> = queries.iter().filter(|query| query.text.contains('$')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
