/**
 * Hands Parquet's reader the keys that it was lent, and no other.
 *
 * Asks no key system: the keys of one artifact, and no wrap key, come as the access token of the
 * read, one a line: the SHA-256 of a wrapped key, a blank, the key in base64.
 *
 * Source: docs/parquet.md, Spark.
 */
package airflow_secure_ml;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.keytools.KmsClient;

public final class LentKeys implements KmsClient {
  private final Map<String, byte[]> lent = new HashMap<>();

  @Override
  public void initialize(Configuration configuration, String id, String url, String token) {
    for (String line : token.split("\n")) {
      String[] pair = line.split(" ");
      if (pair.length == 2) {
        lent.put(pair[0], Base64.getDecoder().decode(pair[1]));
      }
    }
  }

  @Override
  public String wrapKey(byte[] key, String masterKey) {
    throw new KeyAccessDeniedException("these keys are lent for reading");
  }

  @Override
  public byte[] unwrapKey(String wrapped, String masterKey) {
    byte[] key = lent.get(sha256(wrapped));
    if (key == null) {
      throw new KeyAccessDeniedException("key " + masterKey + " was not lent to this reader");
    }
    return key.clone();
  }

  private static String sha256(String text) {
    try {
      byte[] digest =
          MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
      StringBuilder hex = new StringBuilder();
      for (byte each : digest) {
        hex.append(String.format("%02x", each));
      }
      return hex.toString();
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }
}
