//! The wire: the messages of Envoy's API that the suite honours
