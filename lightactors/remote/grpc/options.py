"""The channel arguments of both ends: gRPC's defaults hang for ever on a peer that was cut off or frozen."""

from __future__ import annotations

Options = list[tuple[str, int]]

_PING_EVERY = 2_000
_PING_WITHIN = 2_000
"""Milliseconds. What keeps quiet for longer than both is lost; C threads answer pings, so a busy handler is not."""

_CALLS = 1_000
"""Calls that one connection may have under way, those included that wait for something; further ones queue up there."""

_KEEPALIVE: Options = [
    ("grpc.keepalive_time_ms", _PING_EVERY),
    ("grpc.keepalive_timeout_ms", _PING_WITHIN),
    ("grpc.http2.ping_timeout_ms", _PING_WITHIN),  # the one that works; the one above is its documented name
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

CLIENT: Options = [
    *_KEEPALIVE,
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own: lost and made again with its link
    ("grpc.enable_retries", 0),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # in truth how long one attempt to connect may take
]


def server(max_message: int) -> Options:
    """Return the options of a port that takes messages of up to so many bytes."""
    return [
        *_KEEPALIVE,
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_EVERY // 2),  # else our own pings are too many
        ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
        # By default bursts of more than 1,000 calls are shed at random; each that waits costs 16 KiB, a stranger's too.
        ("grpc.server.max_pending_requests", 1 << 11),
        ("grpc.server.max_pending_requests_hard_limit", 1 << 11),
        ("grpc.max_concurrent_streams", _CALLS),
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_metadata_size", 16 * 1024),
    ]
