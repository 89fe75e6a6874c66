"""Actors that live at the other end of a link: frames, the link itself, its carrier, stand-ins, and the node."""

from lightactors.remote.link import ROOT as ROOT
from lightactors.remote.link import Link as Link
from lightactors.remote.link import Listener as Listener
from lightactors.remote.node import Node as Node
from lightactors.remote.standin import StandIn as StandIn
