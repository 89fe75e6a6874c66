"""The names that spans and their attributes go by: Agent-Lightning's, and OpenTelemetry's for exceptions."""

from __future__ import annotations

ANNOTATION = "agentlightning.annotation"
MESSAGE = "agentlightning.message"
OBJECT = "agentlightning.object"
EXCEPTION = "agentlightning.exception"
OPERATION = "agentlightning.operation"

REWARD = "agentlightning.reward"
"""Prefix of an annotation's rewards: `.0.name` and `.0.value` are those of the primary one."""

MESSAGE_BODY = "agentlightning.message.body"
OBJECT_TYPE = "agentlightning.object.type"
OBJECT_JSON = "agentlightning.object.json"
OPERATION_NAME = "agentlightning.operation.name"
OPERATION_INPUT = "agentlightning.operation.input"
OPERATION_OUTPUT = "agentlightning.operation.output"

EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
