//! The service: from a cluster of Envoy's to the address that a module dials itself.

use serde_json::{Value, json};

use super::{Remarks, text};

/// Names the address of the service's cluster in `config`, a `RateLimit`.
pub(super) fn carry_over(config: &mut Value, clusters: &Value, place: &str, remarks: &mut Remarks) {
    let Some(service) = config.pointer_mut("/rate_limit_service/grpc_service") else { return };
    let Some(envoy) = service.as_object_mut().and_then(|fields| fields.remove("envoy_grpc")) else {
        return;
    };
    let name = text(&envoy, "cluster_name");
    let all = clusters.as_array().map(Vec::as_slice).unwrap_or_default();
    let cluster = all.iter().find(|cluster| text(cluster, "name") == name);
    let endpoints = cluster
        .and_then(|cluster| cluster.pointer("/load_assignment/endpoints")?.as_array().cloned());
    let addresses: Vec<String> = endpoints
        .iter()
        .flatten()
        .filter_map(|locality| locality.get("lb_endpoints")?.as_array())
        .flatten()
        .filter_map(|endpoint| address(endpoint.pointer("/endpoint/address")?))
        .collect();
    let target = match addresses.as_slice() {
        [] => {
            remarks.add(place, format!("the address of cluster `{name}` is not known: put it into google_grpc.target_uri"));
            "ADDRESS:PORT"
        }
        [only] => only,
        [first, ..] => {
            remarks.add(
                place,
                format!("of the endpoints of cluster `{name}` only {first} is dialled"),
            );
            first
        }
    };
    if cluster.is_some_and(|cluster| cluster.get("transport_socket").is_some()) {
        remarks.add(
            place,
            format!("cluster `{name}` has a transport socket: TLS is not supported yet"),
        );
    }
    let google = json!({"target_uri": target, "stat_prefix": name});
    if let Some(fields) = service.as_object_mut() {
        fields.insert("google_grpc".to_owned(), google);
    }
}

fn address(address: &Value) -> Option<String> {
    if let Some(path) = address.pointer("/pipe/path").and_then(Value::as_str) {
        return Some(format!("unix:{path}"));
    }
    let socket = address.get("socket_address")?;
    let (host, port) = (text(socket, "address"), socket.get("port_value")?);
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}
