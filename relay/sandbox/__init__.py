# SPDX-License-Identifier: MIT
"""The stand-in for Entra ID and Graph. It shares no code with graph/, or it would agree with our mistakes."""
