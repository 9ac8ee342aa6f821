"""What our viewers use of aiortc and aioice beyond their public interface. Each module names the private
members that it uses; they are those of aiortc 1.16, which pyproject.toml pins."""
