//! What the messages of Envoy's API look like, by their names.

use std::sync::LazyLock;

use callout_protos::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The description of the message called `name`.
pub(super) fn described(name: &str) -> Option<MessageDescriptor> {
    static POOL: LazyLock<Option<DescriptorPool>> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());
    POOL.as_ref()?.get_message_by_name(name)
}
