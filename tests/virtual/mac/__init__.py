"""A Mac to reach over SSH: a real sshd and zsh, the tools that macOS has and no others, recorded outputs for the rest.

What runs is Linux: the agent is this machine's under the Mac's name, and answers the questions that macOS's kernel
answers. What is proven here is melt's part: what it calls, how it is quoted, what it makes of what comes back.
"""

from .handle import VirtualMac

__all__ = ["VirtualMac"]
