//! Which RPC serves which method and path.

use std::collections::{BTreeSet, HashMap};

use http::{Method, uri::PathAndQuery};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use streamgate_core::{Access, ServiceName};

use crate::{
    error::{Error, Result},
    rest::{
        served_as,
        shape::{Place, Shapes},
        template::{Part, Template, decode_part},
    },
};

const HTTP_EXTENSION: &str = "google.api.http";

/// What of the request the body is.
#[derive(Debug, Clone)]
pub enum BodyRule {
    /// There is none.
    None,
    /// All of it.
    Whole,
    /// One field of it.
    Field(FieldDescriptor),
}

/// One way to call an RPC over REST.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The service that answers.
    pub service: ServiceName,
    /// Its RPC.
    pub rpc: MethodDescriptor,
    /// Where the RPC is called over gRPC.
    pub grpc_path: PathAndQuery,
    /// Who may call it.
    pub access: Access,
    /// HTTP method.
    pub method: Method,
    /// Path.
    pub template: Template,
    /// What the body is.
    pub body: BodyRule,
    /// The field of the answer that is shown, if not all of it.
    pub response_field: Option<FieldDescriptor>,
    /// The shape of what is shown.
    pub shown: Place,
    /// Its place among the bindings of the RPC; 0 is the main one.
    pub place: usize,
}

/// What is served at a path.
#[derive(Debug)]
pub enum Found<'a> {
    /// This RPC, with the texts of the template's variables.
    Route {
        /// How it is called.
        binding: &'a Binding,
        /// Texts of the variables, in order.
        variables: Vec<String>,
    },
    /// Only other methods, as `Allow` lists them.
    WrongMethod {
        /// The methods.
        allowed: String,
    },
    /// Nothing.
    Nothing,
}

/// All REST routes.
#[derive(Debug, Default)]
pub struct Table {
    bindings: Vec<Binding>,
    shapes: Shapes,
    /// A tree over path parts; the first is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, usize>,
    variable: Option<usize>,
    methods: HashMap<Method, usize>,
}

impl Table {
    /// The routes of all public RPCs in `pool`.
    ///
    /// # Errors
    /// A sentence that names the annotation that can't be served.
    pub fn of(pool: &DescriptorPool) -> std::result::Result<Self, String> {
        let http = pool.get_extension_by_name(HTTP_EXTENSION).ok_or("the contracts do not define google.api.http")?;
        let mut table = Self { nodes: vec![Node::default()], ..Self::default() };
        let contracts =
            ServiceName::ALL.into_iter().flat_map(|name| name.grpc_services().iter().map(move |contract| (name, *contract)));
        for (name, contract) in contracts {
            let Some(service) = pool.get_service_by_name(contract) else { continue };
            for rpc in service.methods() {
                let found =
                    bindings_of(name, &rpc, &http, &mut table.shapes).map_err(|why| format!("{}: {why}", rpc.full_name()))?;
                for binding in found {
                    table.add(binding).map_err(|why| format!("{}: {why}", rpc.full_name()))?;
                }
            }
        }
        Ok(table)
    }

    /// All bindings, in the order of the contracts.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Shapes of what is shown.
    #[must_use]
    pub const fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// What is served at `path`.
    ///
    /// # Errors
    /// `Malformed` when the path holds escapes that are none.
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_>> {
        let parts: Option<Vec<String>> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode_part).collect();
        let parts = parts.ok_or_else(|| Error::Malformed("the path holds a broken escape".into()))?;
        let mut reached = Vec::new();
        self.walk(0, &parts, &mut Vec::new(), &mut reached);
        let wanted = served_as(method);
        for (node, variables) in &reached {
            if let Some(place) = self.nodes[*node].methods.get(wanted) {
                return Ok(Found::Route { binding: &self.bindings[*place], variables: variables.clone() });
            }
        }
        if reached.is_empty() {
            return Ok(Found::Nothing);
        }
        Ok(Found::WrongMethod { allowed: self.allowed(reached.iter().map(|(node, _)| *node)) })
    }

    /// Collects the nodes that `parts` lead to, literal parts before variables.
    fn walk(&self, node: usize, parts: &[String], variables: &mut Vec<String>, reached: &mut Vec<(usize, Vec<String>)>) {
        let Some((first, rest)) = parts.split_first() else {
            if !self.nodes[node].methods.is_empty() {
                reached.push((node, variables.clone()));
            }
            return;
        };
        if let Some(next) = self.nodes[node].literals.get(first) {
            self.walk(*next, rest, variables, reached);
        }
        if let Some(next) = self.nodes[node].variable.filter(|_| !first.is_empty()) {
            variables.push(first.clone());
            self.walk(next, rest, variables, reached);
            variables.pop();
        }
    }

    fn allowed(&self, nodes: impl Iterator<Item = usize>) -> String {
        let mut methods: BTreeSet<&str> = BTreeSet::new();
        for node in nodes {
            methods.extend(self.nodes[node].methods.keys().map(Method::as_str));
        }
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        methods.insert("OPTIONS");
        methods.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, binding: Binding) -> std::result::Result<(), String> {
        let mut node = 0;
        for part in &binding.template.parts {
            node = self.child(node, part);
        }
        let place = self.bindings.len();
        if self.nodes[node].methods.insert(binding.method.clone(), place).is_some() {
            return Err(format!("{} {} is served by another RPC already", binding.method, binding.template.openapi()));
        }
        self.bindings.push(binding);
        Ok(())
    }

    fn child(&mut self, node: usize, part: &Part) -> usize {
        let known = match part {
            Part::Literal(text) => self.nodes[node].literals.get(text).copied(),
            Part::Variable(_) => self.nodes[node].variable,
        };
        if let Some(known) = known {
            return known;
        }
        let new = self.nodes.len();
        self.nodes.push(Node::default());
        match part {
            Part::Literal(text) => {
                self.nodes[node].literals.insert(text.clone(), new);
            }
            Part::Variable(_) => self.nodes[node].variable = Some(new),
        }
        new
    }
}

fn bindings_of(
    service: ServiceName,
    rpc: &MethodDescriptor,
    http: &ExtensionDescriptor,
    shapes: &mut Shapes,
) -> std::result::Result<Vec<Binding>, String> {
    let options = rpc.options();
    if !options.has_extension(http) {
        return Ok(Vec::new());
    }
    let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    let access = Access::of_method(&path).ok_or("declares no access")?;
    if access == Access::Internal {
        return Err("is internal and must not have a REST route".into());
    }
    if rpc.is_client_streaming() || rpc.is_server_streaming() {
        return Err("streams and can't be a REST route".into());
    }
    let grpc_path: PathAndQuery = path.parse().map_err(|_| "has a name that is no path")?;
    let extension = options.get_extension(http);
    let Value::Message(main) = extension.as_ref() else { return Err("has no rule".into()) };
    let more = main.get_field_by_name("additional_bindings");
    let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
    let rules = std::iter::once(main).chain(more.iter().filter_map(Value::as_message));
    rules
        .enumerate()
        .map(|(place, rule)| {
            let (method, template) = pattern(rule)?;
            check_variables(rpc, &template)?;
            let response_field = response_field(rpc, &text(rule, "response_body"))?;
            let shown = match response_field.as_ref().map(FieldDescriptor::kind) {
                Some(Kind::Message(inner)) => shapes.add(&inner),
                _ => shapes.add(&rpc.output()),
            };
            Ok(Binding {
                service,
                rpc: rpc.clone(),
                grpc_path: grpc_path.clone(),
                access,
                method,
                template,
                body: body_rule(rpc, &text(rule, "body"))?,
                response_field,
                shown,
                place,
            })
        })
        .collect()
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    rule.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn pattern(rule: &DynamicMessage) -> std::result::Result<(Method, Template), String> {
    let methods = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (field, method) in methods {
        if rule.has_field_by_name(field) {
            return Ok((method, Template::parse(&text(rule, field))?));
        }
    }
    Err("its rule has none of get, put, post, delete, patch".into())
}

fn check_variables(rpc: &MethodDescriptor, template: &Template) -> std::result::Result<(), String> {
    for path in template.variables() {
        let field = field_at(&rpc.input(), path).ok_or_else(|| format!("has no field {}", path.join(".")))?;
        if field.is_list() || matches!(field.kind(), Kind::Message(_)) {
            return Err(format!("{} can't stand in a path", path.join(".")));
        }
    }
    Ok(())
}

/// The field at a path of names below `message`.
#[must_use]
pub fn field_at(message: &MessageDescriptor, path: &[String]) -> Option<FieldDescriptor> {
    let (first, rest) = path.split_first()?;
    let field = message.get_field_by_name(first).or_else(|| message.get_field_by_json_name(first))?;
    if rest.is_empty() {
        return Some(field);
    }
    match field.kind() {
        Kind::Message(inner) if !field.is_list() && !field.is_map() => field_at(&inner, rest),
        _ => None,
    }
}

fn body_rule(rpc: &MethodDescriptor, name: &str) -> std::result::Result<BodyRule, String> {
    match name {
        "" => Ok(BodyRule::None),
        "*" => Ok(BodyRule::Whole),
        name => rpc.input().get_field_by_name(name).map(BodyRule::Field).ok_or_else(|| format!("has no body field {name}")),
    }
}

fn response_field(rpc: &MethodDescriptor, name: &str) -> std::result::Result<Option<FieldDescriptor>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let field = rpc.output().get_field_by_name(name).ok_or_else(|| format!("has no response field {name}"))?;
    match field.kind() {
        Kind::Message(_) if !field.is_list() && !field.is_map() => Ok(Some(field)),
        _ => Err(format!("response field {name} is no message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::of(&DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap()).unwrap()
    }

    fn route(table: &Table, method: &Method, path: &str) -> Option<(String, Vec<String>)> {
        match table.find(method, path).unwrap() {
            Found::Route { binding, variables } => Some((binding.rpc.name().to_owned(), variables)),
            _ => None,
        }
    }

    #[test]
    fn each_binding_of_the_contracts_is_found_again() {
        let table = table();
        assert!(table.bindings().len() > 40);
        for binding in table.bindings() {
            let path: String = binding
                .template
                .parts
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => format!("/{text}"),
                    Part::Variable(_) => "/x1".to_owned(),
                })
                .collect();
            let found = route(&table, &binding.method, &path).map(|(name, _)| name);
            assert_eq!(found.as_deref(), Some(binding.rpc.name()), "{path}");
        }
    }

    #[test]
    fn literal_parts_win_over_variables() {
        let table = table();
        assert_eq!(route(&table, &Method::GET, "/api/v1/jobs/status"), Some(("GetJob".into(), vec![])));
        assert_eq!(route(&table, &Method::GET, "/api/v1/jobs/job_1"), Some(("GetJob".into(), vec!["job_1".into()])));
        assert_eq!(route(&table, &Method::GET, "/api/v1/jobs/list"), Some(("ListJobs".into(), vec![])));
    }

    #[test]
    fn head_is_served_where_get_is() {
        assert_eq!(route(&table(), &Method::HEAD, "/api/v1/version"), Some(("GetVersion".into(), vec![])));
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let table = table();
        let Found::WrongMethod { allowed } = table.find(&Method::POST, "/api/v1/contents/c1").unwrap() else { panic!("found") };
        assert_eq!(allowed, "DELETE, GET, HEAD, OPTIONS, PATCH");
    }

    #[test]
    fn unknown_paths_and_empty_parts_are_nothing() {
        let table = table();
        for path in ["/", "/api/v1", "/api/v1/contents//gate", "/api/v1/contents/", "/api/v1/contents/a/b/c", "//api/v1/version"]
        {
            assert!(matches!(table.find(&Method::GET, path).unwrap(), Found::Nothing), "{path}");
        }
        assert!(table.find(&Method::GET, "/api/v1/contents/%zz").is_err());
    }

    #[test]
    fn no_internal_call_has_a_route() {
        assert!(table().bindings().iter().all(|binding| binding.access != Access::Internal));
    }
}
