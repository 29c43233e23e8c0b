//! A topology as a person or a program reads it: text, JSON, Mermaid. Knows nodes by name only.

use std::fmt;

use serde::Serialize;

use super::graph::{Graph, Role};

/// A described topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The nodes, in the order they were added.
    pub nodes: Vec<DescribedNode>,
}

/// A described node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DescribedNode {
    /// The number of its subtopology.
    pub subtopology: usize,
    /// Its name, for display only.
    pub name: String,
    /// The operator.
    pub operator: &'static str,
    /// The topic it reads or writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its stores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<String>,
    /// What it emits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emits: Option<String>,
    /// The nodes before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
}

impl Description {
    pub(super) fn of(graph: &Graph, subtopology_of: &[usize], _count: usize) -> Self {
        let nodes = graph.nodes.iter().zip(subtopology_of).map(|(node, &subtopology)| {
            let topic = match &node.role {
                Role::Source(topic) | Role::Sink(topic) => {
                    Some(topic.resolve("<application>").to_string())
                }
                Role::Inner => None,
            };
            DescribedNode {
                subtopology,
                name: node.name.to_string(),
                operator: node.operator,
                topic,
                stores: node.stores.iter().map(|&s| graph.stores[s].name.to_string()).collect(),
                emits: node.output.map(|t| t.describe()),
                parents: node.parents.iter().map(|&p| graph.nodes[p].name.to_string()).collect(),
            }
        });
        Self { nodes: nodes.collect() }
    }

    /// The topology as a Mermaid flow chart.
    pub fn mermaid(&self) -> String {
        let mut chart = String::from("flowchart TD\n");
        let id = |name: &str| -> String {
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
        };
        for node in &self.nodes {
            let label = match &node.topic {
                Some(topic) => format!("{}<br/>{topic}", node.name),
                None => node.name.clone(),
            };
            chart.push_str(&format!("  {}[\"{label}\"]\n", id(&node.name)));
            for store in &node.stores {
                chart.push_str(&format!("  store_{}[(\"{store}\")]\n", id(store)));
                chart.push_str(&format!("  {} --- store_{}\n", id(&node.name), id(store)));
            }
            for parent in &node.parents {
                chart.push_str(&format!("  {} --> {}\n", id(parent), id(&node.name)));
            }
        }
        chart
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subtopology = None;
        for node in &self.nodes {
            if subtopology != Some(node.subtopology) {
                subtopology = Some(node.subtopology);
                writeln!(f, "subtopology {}", node.subtopology)?;
            }
            write!(f, "  {} ({})", node.name, node.operator)?;
            if let Some(topic) = &node.topic {
                write!(f, " topic {topic}")?;
            }
            if !node.stores.is_empty() {
                write!(f, " stores {}", node.stores.join(", "))?;
            }
            if !node.parents.is_empty() {
                write!(f, " <- {}", node.parents.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
