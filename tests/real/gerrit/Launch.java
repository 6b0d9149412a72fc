import com.google.gerrit.launcher.GerritLauncher;

/** Runs a program of Gerrit (init, daemon) from the class path: its own launcher expects a WAR. */
public final class Launch {
  private Launch() {}

  public static void main(String[] arguments) throws Exception {
    System.exit(GerritLauncher.invokeProgram(Launch.class.getClassLoader(), arguments));
  }
}
