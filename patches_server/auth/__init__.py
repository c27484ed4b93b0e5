"""Who is calling, and what they may do."""

from patches_server.auth.access import Access, Auth, AuthProvider, Principal, allow_all

__all__ = ["Access", "Auth", "AuthProvider", "Principal", "allow_all"]
